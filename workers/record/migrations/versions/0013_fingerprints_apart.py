"""Large files: fingerprints are numbers, and found by a table of their own that is stored sorted"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

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
FILL = """
    INSERT INTO fingerprints (fingerprint, batch_id, row)
        SELECT fingerprint, batch_id, row FROM payouts WHERE fingerprint IS NOT NULL ORDER BY 1
"""


def upgrade() -> None:
    op.drop_index("payouts_fingerprint", table_name="payouts")
    if op.get_bind().dialect.name == "postgresql":
        op.execute(ON_POSTGRESQL)
    else:
        for statement in ON_SQLITE:
            op.execute(statement)
    op.create_table(
        "fingerprints",
        sa.Column("fingerprint", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("batch_id", sa.Text(), primary_key=True),
        sa.Column("row", sa.Integer(), primary_key=True),
        sqlite_with_rowid=False,
    )
    op.execute(FILL)
