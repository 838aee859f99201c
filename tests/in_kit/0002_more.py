"""Tables of every kind."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


OF_POSTGRESQL = (
    "CREATE TABLE parts (id integer, name text) PARTITION BY LIST (id)",
    "CREATE TABLE parts_1 PARTITION OF parts FOR VALUES IN (1)",
    "CREATE TABLE parts_2 PARTITION OF parts FOR VALUES IN (2)",
    "CREATE TABLE pages (id integer, t text) PARTITION BY LIST (id)",
    "CREATE TABLE pages_1 PARTITION OF pages FOR VALUES IN (1)",
    "CREATE TABLE pages_2 PARTITION OF pages FOR VALUES IN (2)",
    "CREATE TABLE pages_more PARTITION OF pages FOR VALUES IN (3, 4) PARTITION BY LIST (id)",
    "CREATE TABLE pages_3 PARTITION OF pages_more FOR VALUES IN (3)",
    "CREATE TABLE pages_4 PARTITION OF pages_more FOR VALUES IN (4)",
    "INSERT INTO pages VALUES (1, 'start')",
    "CREATE TABLE guarded (id integer PRIMARY KEY)",
    "ALTER TABLE guarded ENABLE ROW LEVEL SECURITY",
    "ALTER TABLE guarded FORCE ROW LEVEL SECURITY",
    "CREATE POLICY write_only ON guarded FOR INSERT WITH CHECK (true)",
    "CREATE MATERIALIZED VIEW summary AS SELECT id FROM parents",
    "CREATE UNIQUE INDEX summary_ix ON summary (id)",
    "CREATE TYPE mood AS ENUM ('happy')",
    "SELECT lo_create(7)",
)
OF_MARIADB = (
    "CREATE TABLE prices (id integer AUTO_INCREMENT PRIMARY KEY, name VARCHAR(9)) WITH SYSTEM VERSIONING",
    "INSERT INTO prices (name) VALUES ('low')",
    "CREATE TABLE histories (name VARCHAR(9)) WITH SYSTEM VERSIONING",
)


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
        for statement in OF_POSTGRESQL:
            op.execute(statement)
    if op.get_bind().dialect.name == "mariadb":
        for statement in OF_MARIADB:
            op.execute(statement)
    if op.get_bind().dialect.name != "sqlite":
        op.create_table("it's, 50% `odd`", sa.Column("id", sa.Integer, primary_key=True), mariadb_auto_increment="500")
    if op.get_bind().dialect.supports_sequences:
        op.execute("CREATE SEQUENCE order_numbers")
        on_mariadb = op.get_bind().dialect.name == "mariadb"
        op.execute("SELECT NEXT VALUE FOR order_numbers" if on_mariadb else "SELECT nextval('order_numbers')")


def downgrade() -> None:
    """Drop them."""
    if op.get_bind().dialect.supports_sequences:
        op.execute("DROP SEQUENCE order_numbers")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("SELECT lo_unlink(7)")
        op.execute("DROP MATERIALIZED VIEW summary")
        op.execute("DROP TYPE mood")
        for table in ("parts", "pages", "guarded"):
            op.drop_table(table)
    if op.get_bind().dialect.name == "mariadb":
        for table in ("prices", "histories"):
            op.drop_table(table)
    if op.get_bind().dialect.name != "sqlite":
        op.drop_table("it's, 50% `odd`")
    with op.batch_alter_table("ones") as batch_op:
        batch_op.drop_constraint("fk_two", type_="foreignkey")
    for table in ("roles", "twos", "ones", "unnumbered", "children", "parents"):
        op.drop_table(table)
