"""Large files: a fingerprint is a number of 64 bits, whose index is a third as large"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

FINGERPRINTED = sa.text("fingerprint IS NOT NULL")
# The first 64 bits of what was there, which is the hash's own beginning as hexadecimal digits.
ON_POSTGRESQL = """
    ALTER TABLE payouts ALTER COLUMN fingerprint DROP NOT NULL,
        ALTER COLUMN fingerprint TYPE BIGINT
            USING CAST(CAST('x' || left(NULLIF(fingerprint, ''), 16) AS BIT(64)) AS BIGINT)
"""
_DIGITS = " | ".join(
    f"((instr('0123456789abcdef', substr(fingerprint_text, {at + 1}, 1)) - 1) << {60 - 4 * at})"
    for at in range(16)
)
ON_SQLITE = (
    "ALTER TABLE payouts RENAME COLUMN fingerprint TO fingerprint_text",
    "ALTER TABLE payouts ADD COLUMN fingerprint BIGINT",
    f"UPDATE payouts SET fingerprint = {_DIGITS} WHERE fingerprint_text <> ''",  # noqa: S608 - all ours
    "ALTER TABLE payouts DROP COLUMN fingerprint_text",
)


def upgrade() -> None:
    op.drop_index("payouts_fingerprint", table_name="payouts")
    if op.get_bind().dialect.name == "postgresql":
        op.execute(ON_POSTGRESQL)
    else:
        for statement in ON_SQLITE:
            op.execute(statement)
    op.create_index(
        "payouts_fingerprint",
        "payouts",
        ["fingerprint"],
        postgresql_where=FINGERPRINTED,
        sqlite_where=FINGERPRINTED,
    )
