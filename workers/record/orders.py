"""A row of the payouts table as the order that its maker wrote, if it is still that.

Beside the vault, the only opener of beneficiary data.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row

from workers.errors import VaultError
from workers.record.model import Order
from workers.record.rows import money_of
from workers.record.vault import Vault

BROKEN = "its seal is broken: it is not what was approved"


def order_of(row: Row[Any], vault: Vault) -> Order:
    """The order as its maker wrote it.

    Raises:
        VaultError: its data does not open, is not what was stored, or was removed.
    """
    check_kept(row)
    if not isinstance(row.metadata, dict):
        raise metadata_changed(row)
    opened = vault.decrypt(row.sealed_data, account=row.account, reference_id=row.reference_id)
    return Order(
        reference_id=row.reference_id,
        account=row.account,
        amount=money_of(row),
        service=row.service,
        metadata=row.metadata,
        description=row.description,
        replaces=row.replaces,
        **opened,
    )


def approved_order(row: Row[Any], vault: Vault) -> Order:
    """The order as it was approved.

    Raises:
        VaultError: as `order_of`, or it is not what was approved.
    """
    order = order_of(row, vault)
    if not vault.seal_holds(order, row.seal):
        raise VaultError(BROKEN)
    return order


def check_kept(row: Row[Any]) -> None:
    """See that the row's beneficiary data was not removed.

    Raises:
        VaultError: it was.
    """
    if row.purged_at is not None:
        raise VaultError(
            f"payout {row.reference_id}: its beneficiary data was removed on"
            f" {row.purged_at:%Y-%m-%d} (`paybatch purge`); only the file that it came from has it"
        )


def metadata_changed(row: Row[Any]) -> VaultError:
    """Why a row is no order any more whose metadata is no object."""
    return VaultError(f"payout {row.reference_id}: its stored metadata was changed")
