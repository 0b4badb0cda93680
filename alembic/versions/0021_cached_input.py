"""The price and the count of input from the provider's cache; a data: URL becomes its picture's hash however phones wrote it."""

from alembic import op

from draftd.db.private import keep_private

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

ADD = """
ALTER TABLE draft_models
    ADD COLUMN cached_input_usd_per_mtok numeric,
    ADD CONSTRAINT draft_models_cached_input_usd_per_mtok_check CHECK (cached_input_usd_per_mtok BETWEEN 0 AND 10000);
COMMENT ON COLUMN draft_models.cached_input_usd_per_mtok IS 'of input from the provider''s cache; null: as other input';
ALTER TABLE draft_usage ADD COLUMN cached_tokens integer;
COMMENT ON COLUMN draft_usage.cached_tokens IS 'of input_tokens, those from the provider''s cache; null: unknown';
"""
DROP = """
ALTER TABLE draft_usage DROP COLUMN cached_tokens;
ALTER TABLE draft_models DROP COLUMN cached_input_usd_per_mtok;
"""
WITHOUT_PICTURES = r"""
-- Each data: URL becomes the hash of its picture. What is no base64 is hashed as it stands: ending a request never fails.
CREATE OR REPLACE FUNCTION draft_requests_without_pictures(image_urls text[]) RETURNS text[]
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    entry text;
    kept text[] := '{{}}';
    picture bytea;{declare}
BEGIN
    FOREACH entry IN ARRAY image_urls LOOP
        IF entry ILIKE 'data:%' THEN
            BEGIN
                {decode}
            EXCEPTION WHEN data_exception THEN
                picture := convert_to(entry, 'UTF8');
            END;
            entry := 'sha256:' || encode(sha256(picture), 'hex');
        END IF;
        kept := kept || entry;
    END LOOP;
    RETURN kept;
END $$;
"""
STRICT = {"declare": "", "decode": "picture := decode(substr(entry, position(',' IN entry) + 1), 'base64');"}
# What the loader accepts: spaces, line breaks, either alphabet of RFC 4648, no padding. For 24 MiB, replace() without a match
# costs next to nothing, and translate() more than a second.
AS_PHONES_WRITE_IT = {
    "declare": "\n    digits text;",
    "decode": r"""digits := replace(replace(substr(entry, position(',' IN entry) + 1), '-', '+'), '_', '/');
                digits := replace(replace(replace(replace(replace(digits, ' ', ''), E'\t', ''), E'\r', ''), E'\n', ''), '=', '');
                picture := decode(digits || repeat('=', -length(digits) & 3), 'base64');""",
}


def replace(parts: dict[str, str]) -> None:
    """Replace the function, and its search_path, which a replacement loses."""
    op.execute(WITHOUT_PICTURES.format(**parts))
    op.execute(keep_private(functions=["draft_requests_without_pictures(text[])"]))


def upgrade() -> None:
    op.execute(ADD)
    replace(AS_PHONES_WRITE_IT)


def downgrade() -> None:
    replace(STRICT)
    op.execute(DROP)
