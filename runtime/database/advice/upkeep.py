"""Indexes that serve nobody, tables that are not vacuumed in time, and a cache that is too small."""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Final

from sqlalchemy import Connection, Row, text

from runtime.database.advice.report import Advice, Bounds, Topic
from runtime.database.advice.statements import MARK
from runtime.database.tables import metadata

#: Those of our own schema are the migrations' affair: the next one would expect them.
OURS: Final = frozenset(str(index.name) for table in metadata.tables.values() for index in table.indexes)

#: Since when everything was counted at the least: a crash makes all statistics begin anew.
BEGIN: Final = text(f"""
    SELECT {MARK} extract(epoch FROM now() - greatest(d.stats_reset, b.stats_reset))::double precision
    FROM pg_stat_database d, pg_stat_bgwriter b WHERE d.datname = current_database()
""")  # noqa: S608  a constant

UNUSED: Final = text(f"""
    SELECT {MARK} s.indexrelname AS plain, quote_ident(s.schemaname) || '.' || quote_ident(s.indexrelname) AS name,
           quote_ident(s.schemaname) || '.' || quote_ident(s.relname) AS table_name,
           pg_relation_size(s.indexrelid) AS size_bytes, t.n_tup_ins + t.n_tup_upd AS writes
    FROM pg_stat_user_indexes s JOIN pg_index i USING (indexrelid) JOIN pg_stat_user_tables t ON t.relid = s.relid
    WHERE s.idx_scan = 0 AND NOT i.indisunique AND NOT i.indisprimary AND NOT i.indisexclusion
      AND NOT i.indisreplident AND i.indisvalid
      AND NOT EXISTS (SELECT FROM pg_constraint c WHERE c.conindid = s.indexrelid)
      -- A part of an index of a partitioned table can't be dropped by itself.
      AND NOT EXISTS (SELECT FROM pg_inherits h WHERE h.inhrelid = s.indexrelid)
      AND pg_relation_size(s.indexrelid) >= :index_bytes
    ORDER BY size_bytes DESC, name
""")  # noqa: S608

#: Of two that are equal, the one goes that no constraint needs and that asserts no more; else the later.
DUPLICATES: Final = text(f"""
    WITH known AS (
        SELECT i.indexrelid, i.indisunique, i.indimmediate, i.indisreplident,
               quote_ident(n.nspname) || '.' || quote_ident(k.relname) AS name,
               quote_ident(n.nspname) || '.' || quote_ident(t.relname) AS table_name,
               -- All that makes two indexes equal. The trees of their expressions hold where in the text they stood.
               (i.indrelid, k.relam, i.indkey::text, i.indclass::text, i.indcollation::text, i.indoption::text,
                i.indnkeyatts, coalesce(pg_get_expr(i.indpred, i.indrelid), ''),
                coalesce(pg_get_expr(i.indexprs, i.indrelid), ''),
                coalesce(to_jsonb(i)->>'indnullsnotdistinct', '')) AS meaning,
               EXISTS (SELECT FROM pg_constraint c WHERE c.conindid = i.indexrelid) AS is_needed
        FROM pg_index i
        JOIN pg_class k ON k.oid = i.indexrelid
        JOIN pg_class t ON t.oid = i.indrelid
        JOIN pg_namespace n ON n.oid = t.relnamespace
        WHERE i.indisvalid AND n.nspname NOT IN ('pg_catalog', 'pg_toast', 'information_schema')
    )
    SELECT {MARK} extra.name, kept.name AS kept, extra.table_name,
           coalesce(pg_relation_size(extra.indexrelid), 0) AS size_bytes
    FROM known AS extra JOIN known AS kept ON kept.meaning = extra.meaning AND kept.indexrelid <> extra.indexrelid
    WHERE NOT extra.is_needed AND NOT extra.indisreplident
      AND (NOT extra.indisunique OR (kept.indisunique AND kept.indimmediate))
      AND (kept.is_needed OR (kept.indisunique AND NOT extra.indisunique) OR kept.indexrelid < extra.indexrelid)
      -- A part of an index of a partitioned table can't be dropped by itself.
      AND NOT EXISTS (SELECT FROM pg_inherits h WHERE h.inhrelid = extra.indexrelid)
    ORDER BY extra.name, kept.is_needed DESC, kept.indexrelid
""")  # noqa: S608

DEAD_ROWS: Final = text(f"""
    SELECT {MARK} quote_ident(schemaname) || '.' || quote_ident(relname) AS name, n_dead_tup AS dead,
           n_live_tup AS live,
           extract(epoch FROM now() - greatest(last_vacuum, last_autovacuum))::double precision AS vacuumed_s
    FROM pg_stat_user_tables
    WHERE n_dead_tup > n_live_tup AND n_dead_tup >= :dead_rows
    ORDER BY dead DESC, name
""")  # noqa: S608

CACHE: Final = text(f"""
    SELECT {MARK} blks_hit AS hit, blks_hit + blks_read AS asked, datname AS name,
           pg_size_bytes(current_setting('shared_buffers')) / 1048576 AS buffers_mb
    FROM pg_stat_database WHERE datname = current_database()
""")  # noqa: S608


def inspect(connection: Connection, bounds: Bounds) -> list[Advice]:
    """What there is to say, by the statistics that Postgres keeps itself."""
    age_s: float | None = connection.execute(BEGIN).scalar()
    duplicates = connection.execute(DUPLICATES).all()
    advice = [*_duplicates(duplicates)]
    if age_s is not None and age_s >= bounds.unused_s:
        named = {row.name for row in duplicates}
        unused = connection.execute(UNUSED, {"index_bytes": bounds.index_bytes}).all()
        rows = [row for row in unused if row.plain not in OURS and row.name not in named]
        advice.extend(_unused(row, age_s) for row in rows)
    dead = connection.execute(DEAD_ROWS, {"dead_rows": bounds.dead_rows}).all()
    advice.extend(_dead_rows(row) for row in dead if _is_late(row.vacuumed_s, age_s, bounds))
    cache = connection.execute(CACHE).one()
    if cache.asked >= bounds.cache_blocks and cache.hit < bounds.cache_hits * cache.asked:
        advice.append(_cache(cache, bounds))
    return advice


def _duplicates(rows: Sequence[Row[tuple[object, ...]]]) -> Iterator[Advice]:
    seen: set[str] = set()
    for row in rows:
        # Of three, two go, each once.
        if row.name in seen:
            continue
        seen.add(row.name)
        yield Advice(
            Topic.DUPLICATE_INDEX,
            row.table_name,
            f"{row.name} ({_mib(row.size_bytes)}) has the same columns and condition as {row.kept}",
            "every write pays for both, and one serves as well",
            f"DROP INDEX CONCURRENTLY {row.name};",
        )


def _unused(row: Row[tuple[object, ...]], age_s: float) -> Advice:
    return Advice(
        Topic.UNUSED_INDEX,
        row.table_name,
        f"{row.name} ({_mib(row.size_bytes)}) was never used in {_age(age_s)}, and {row.writes} rows were written",
        "every write pays for it; a replica counts for itself, and a rare report may still want it",
        f"DROP INDEX CONCURRENTLY {row.name};",
    )


def _is_late(vacuumed_s: float | None, age_s: float | None, bounds: Bounds) -> bool:
    since_s = age_s if vacuumed_s is None else vacuumed_s
    return since_s is None or since_s >= bounds.vacuum_s


def _dead_rows(row: Row[tuple[object, ...]]) -> Advice:
    when = "never" if row.vacuumed_s is None else f"{_age(row.vacuumed_s)} ago"
    return Advice(
        Topic.DEAD_ROWS,
        row.name,
        f"{row.dead} dead rows to {row.live} living ones, vacuumed {when}",
        "every scan reads the dead ones too: autovacuum is behind, or an old transaction holds it up",
        f"VACUUM (ANALYZE) {row.name};",
    )


def _cache(row: Row[tuple[object, ...]], bounds: Bounds) -> Advice:
    return Advice(
        Topic.CACHE,
        row.name,
        f"{row.hit / row.asked:.1%} of {row.asked} blocks were in shared_buffers ({row.buffers_mb} MiB), "
        f"less than {bounds.cache_hits:.0%}",
        "the others come from the system's cache at best, and from the disk at worst",
        f"ALTER SYSTEM SET shared_buffers = '{2 * row.buffers_mb}MB'; and a restart, up to a quarter of the memory",
    )


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / 1024**2:.1f} MiB"


def _age(seconds: float) -> str:
    return str(timedelta(seconds=int(seconds)))
