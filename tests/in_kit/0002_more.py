"""Tables of every kind."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make them."""
    op.create_table("parents", sa.Column("id", sa.Integer, primary_key=True), sa.Column("name", sa.String(50)))
    op.create_table(
        "children",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("parent_id", sa.Integer, sa.ForeignKey("parents.id", name="fk_parent"), nullable=False),
    )
    op.create_table("unnumbered", sa.Column("name", sa.String(50), primary_key=True))
    op.create_table("ones", sa.Column("id", sa.Integer, primary_key=True), sa.Column("two_id", sa.Integer))
    op.create_table(
        "twos",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("one_id", sa.Integer, sa.ForeignKey("ones.id", name="fk_one")),
    )
    with op.batch_alter_table("ones") as batch_op:
        batch_op.create_foreign_key("fk_two", "twos", ["two_id"], ["id"])
    roles = op.create_table("roles", sa.Column("id", sa.Integer, primary_key=True), sa.Column("name", sa.String(50)))
    op.bulk_insert(roles, [{"name": "reader"}, {"name": "writer"}])
    if op.get_bind().dialect.name == "postgresql":
        op.execute("CREATE TABLE parts (id integer, name text) PARTITION BY LIST (id)")
        for number in (1, 2):
            op.execute(f"CREATE TABLE parts_{number} PARTITION OF parts FOR VALUES IN ({number})")


def downgrade() -> None:
    """Drop them."""
    if op.get_bind().dialect.name == "postgresql":
        op.drop_table("parts")
    with op.batch_alter_table("ones") as batch_op:
        batch_op.drop_constraint("fk_two", type_="foreignkey")
    for table in ("roles", "twos", "ones", "unnumbered", "children", "parents"):
        op.drop_table(table)
