<%!
    def literal(value):
        if isinstance(value, (tuple, list)):
            return f"({', '.join(map(literal, value))}{',' if len(value) == 1 else ''})"
        return f'"{value}"' if isinstance(value, str) else repr(value)
%>\
"""${message}

Revision ID: ${up_revision}
Revises: ${comma(down_revision) or "-"}
% if depends_on:
Depends on: ${comma(depends_on)}
% endif
Create Date: ${create_date}
"""

import sqlalchemy as sa
from alembic import op
${imports + "\n" if imports else ""}
revision = ${literal(up_revision)}
down_revision = ${literal(down_revision)}
branch_labels = ${literal(branch_labels)}
depends_on = ${literal(depends_on)}


% if not upgrades and not isinstance(down_revision, tuple):
# For examples, see the page "Writing revisions" in Ampho's documentation, docs/revisions.md.
% endif
def upgrade():
    ${upgrades if upgrades else "pass"}


def downgrade():
    ${downgrades if downgrades else "pass"}
