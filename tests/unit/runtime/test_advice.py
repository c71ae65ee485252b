"""Filters taken apart, and the rules that make an index of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.database.advice.catalog import Column, Index, Table
from runtime.database.advice.filters import Comparison, Term, names_in, parse_filter
from runtime.database.advice.indexes import is_served, judge, propose
from runtime.database.advice.obstacles import NO_COLUMN, NO_RIGHT, NOT_LOADED, not_readable
from runtime.database.advice.plans import Scan, read_plan
from runtime.database.advice.report import Bounds
from runtime.database.advice.statements import Statement, readable, spellings

BOUNDS = Bounds()


@pytest.mark.parametrize(
    ("text", "terms", "left_over"),
    [
        ("(t.a = $1)", [("a", "EQUAL", "")], 0),
        ("((t.a = $1) AND (t.b > $2) AND (t.b <= now()))", [("a", "EQUAL", ""), *2 * [("b", "RANGE", "")]], 0),
        ("($1 = t.a)", [("a", "EQUAL", "")], 0),
        ("(t.a > (now() - make_interval(secs => $1)))", [("a", "RANGE", "")], 0),
        ("(t.a = ANY ($1))", [("a", "ANY", "")], 0),
        ("(t.a = ANY ('{x,y}'::text[]))", [("a", "ANY", "")], 0),
        ("((t.v)::text = ($1)::text)", [("v", "EQUAL", "text")], 0),
        ('(t."A b" = $1)', [("A b", "EQUAL", "")], 0),
        ("(t.a IS NULL)", [("a", "IS_NULL", "")], 0),
        ("(t.a IS NOT NULL)", [], 1),
        ("((t.a = $1) OR (t.b = $2))", [], 1),
        ("((t.a = $1) AND ((t.b = $2) OR (t.c = $3)))", [("a", "EQUAL", "")], 1),
        ("(t.a = t.b)", [], 1),
        ("(t.a = (t.b + 1))", [], 1),
        ("(t.a = other.b)", [("a", "EQUAL", "")], 0),
        ("(t.a <> $1)", [], 1),
        ("(t.a ~~ $1)", [], 1),
        ("(lower(t.a) = $1)", [], 1),
        ("(t.a = random_thing($1))", [], 1),
        ("(t.a = ($1)::text COLLATE \"C\")", [], 1),
        ("(t.a = (SubPlan 1))", [], 1),
        ("(NOT t.a)", [], 1),
        ("((t.a + 1) = $1)", [], 1),
        ("(CASE WHEN ((t.a = $1) AND (t.b = $2)) THEN true ELSE NULL::boolean END)", [], 1),
        ("(t.a = 'it''s AND (t.b = 1)'::text)", [("a", "EQUAL", "")], 0),
        ("(ROW(t.a, t.b) > ROW($1, $2))", [], 1),
        ("(t.a = $1", [], 1),
        ("", [], 0),
    ],
)  # fmt: skip
def test_comparisons_are_read_and_all_else_is_left_over(
    text: str, terms: list[tuple[str, str, str]], left_over: int
) -> None:
    found = parse_filter(text, "t")
    assert list(found.terms) == [Term(column, Comparison[name], cast) for column, name, cast in terms]
    assert found.left_over == left_over


TOKENS = st.sampled_from(
    ["t.a", 't."b""c"', "u.a", "(", ")", "[", "]", "=", "<", "AND", "OR", "NOT", "IS", "NULL", "ANY", "::", "text",
     "$1", "'x'", "E'\\\\'", "1.5e3", "now()", "CASE", "SubPlan 1", ",", ".", "~~", "é", "\x00", "\n"]
)  # fmt: skip


@given(
    st.one_of(st.text(), st.lists(TOKENS).map(" ".join), st.lists(TOKENS).map("".join)), st.sampled_from(["t", "", "("])
)
def test_reading_a_filter_never_raises(text: str, alias: str) -> None:
    found = parse_filter(text, alias)
    assert {term.column for term in found.terms} <= found.columns
    assert names_in(text) is not None


@pytest.mark.parametrize("text", ["(" * 9_000 + "t.a = $1" + ")" * 9_000, "(" * 19_000, "x" * 30_000, "(NOT " * 3_000])
def test_reading_a_deep_or_a_long_filter_never_raises(text: str) -> None:
    parse_filter(text, "t")


@given(st.lists(st.sampled_from(["(t.a = $1)", "(t.b < $2)", "(t.c IS NULL)", "(t.d <> $3)"]), min_size=2))
def test_conditions_are_counted_whatever_their_nesting(parts: list[str]) -> None:
    flat = f"({' AND '.join(parts)})"
    nested = parts[0]
    for part in parts[1:]:
        nested = f"(({nested}) AND {part})"
    assert parse_filter(flat, "t") == parse_filter(nested, "t")
    assert parse_filter(flat, "t").left_over == parts.count("(t.d <> $3)")


def column(name: str, distinct: float | None, null_frac: float | None = 0.0, kind: str = "text") -> Column:
    return Column(name, name, kind, distinct, null_frac)


def table(*indexes: Index, rows: float = 1e6) -> Table:
    columns = [
        column("many", -1.0), column("some", 100), column("few", 2), column("unknown", None, None),
        column("at", -1.0), column("rare", 5, 0.0001), column("wide", 1_000, kind="character varying"),
        column("number", -1.0, kind="integer"),
    ]  # fmt: skip
    return Table("public.t", False, rows, 100 * 1024**2, 12_800, {item.name: item for item in columns}, indexes)


def equal(*names: str) -> list[Term]:
    return [Term(name, Comparison.EQUAL) for name in names]


def proposed(terms: list[Term]) -> tuple[str, ...] | None:
    found = propose(table(), terms, BOUNDS)
    return None if found is None else found.columns


def test_the_most_selective_column_comes_first_arrays_behind_and_one_range_last() -> None:
    ranges = [Term("at", Comparison.RANGE), Term("number", Comparison.RANGE)]
    assert proposed([*ranges, *equal("few", "many")]) == ("many", "few", "at")
    assert proposed([Term("many", Comparison.ANY), *equal("some")]) == ("some", "many")
    assert proposed(equal("few", "some", "wide", "many")) == ("many", "wide", "some")


def test_nothing_is_proposed_for_what_is_not_known_to_select() -> None:
    assert proposed(equal("few")) is None
    assert proposed(equal("unknown")) is None
    assert proposed([Term("at", Comparison.RANGE)]) is None
    assert proposed([Term("few", Comparison.IS_NULL)]) == ("few",)


def test_a_cast_column_is_served_only_where_its_index_is_the_same() -> None:
    assert table().can_serve(Term("wide", Comparison.EQUAL, "text"))
    assert not table().can_serve(Term("number", Comparison.EQUAL, "numeric"))
    assert not table().can_serve(Term("gone", Comparison.EQUAL))


@pytest.mark.parametrize(
    ("index", "served"),
    [
        (Index("i", ["some", "few", "at"]), True),
        (Index("i", ["few", "some", "at", "many"]), True),
        (Index("i", ["few", "some"]), True),
        (Index("i", ["some"]), True),
        (Index("i", ["few"]), False),
        (Index("i", ["at", "some", "few"]), False),
        (Index("i", [None, "some", "few", "at"]), False),
        (Index("i", ["some", "few", "at"], frozenset({"many"})), False),
    ],
)
def test_an_index_serves_what_it_begins_with(index: Index, served: bool) -> None:
    terms = [*equal("some", "few"), Term("at", Comparison.RANGE)]
    assert is_served(table(index), ("some", "few", "at"), terms, BOUNDS) == served


def statement(blocks: float = 12_800, rows: float = 1) -> Statement:
    return Statement(1, "SELECT", 100, 1_000.0, rows, blocks, 0.0)


def test_what_was_executed_has_the_last_word() -> None:
    """A partial index, or a plan made for the parameters: the generic plan knows neither."""
    scan = Scan("public", "t", "t", "(t.many = $1)", 1.0)
    assert judge(scan, table(), statement(), BOUNDS) is not None
    assert judge(scan, table(), statement(blocks=50), BOUNDS) is None
    assert judge(scan, table(), statement(rows=5_000), BOUNDS) is None
    assert judge(scan, table(rows=9_000), statement(), BOUNDS) is None


@pytest.mark.parametrize(
    ("query", "body"),
    [
        ("SELECT 1", "SELECT 1"),
        ("  (select 1)", "(select 1)"),
        ("-- why\n/* so */ UPDATE t SET a = $1", "-- why\n/* so */ UPDATE t SET a = $1"),
        ("PREPARE p AS SELECT 1;", "SELECT 1"),
        ('PREPARE "my p" (int, numeric(10,2), text) AS DELETE FROM t', "DELETE FROM t"),
        ("INSERT INTO t SELECT 1", "INSERT INTO t SELECT 1"),
        ("INSERT INTO t VALUES ($1)", None),
        ("CREATE TABLE t AS SELECT 1", None),
        ("EXPLAIN SELECT 1", None),
        ("selectivity", None),
        ("/* open SELECT 1", None),
    ],
)
def test_only_statements_that_read_are_planned(query: str, body: str | None) -> None:
    assert readable(query) == body


@given(st.text())
def test_reading_a_query_never_raises(query: str) -> None:
    readable(query)


def test_scans_are_found_at_any_depth_but_for_the_catalog() -> None:
    scan = {"Node Type": "Seq Scan", "Schema": "s", "Relation Name": "t", "Alias": "x", "Filter": "f", "Plan Rows": 3}
    bare = {key: value for key, value in scan.items() if key != "Filter"}
    system = {**scan, "Schema": "pg_catalog"}
    join = {
        "Node Type": "Hash Join",
        "Total Cost": 9.5,
        "Plans": [{"Node Type": "Hash", "Plans": [scan]}, bare, system],
    }
    plan = read_plan([{"Plan": join}])
    assert plan.scans == (Scan("s", "t", "x", "f", 3.0),)
    assert plan.cost == 9.5


@pytest.mark.parametrize(
    ("code", "step"),
    [
        (
            NOT_LOADED,
            "shared_preload_libraries = 'pg_stat_statements' in postgresql.conf, a restart, and CREATE EXTENSION",
        ),
        (NO_RIGHT, "GRANT SELECT ON pg_stat_statements TO me;"),
        (NO_COLUMN, "ALTER EXTENSION pg_stat_statements UPDATE;"),
    ],
)
def test_each_obstacle_has_its_next_step(code: str, step: str) -> None:
    assert not_readable(code, "me").step.startswith(step)


def test_constants_that_no_parameter_stands_for_are_put_back() -> None:
    recorded = "SELECT extract($4 FROM now() - interval $5) FROM t WHERE a = $2 AND CASE WHEN b THEN $3 END AND c = $2"
    assert spellings(recorded) == [
        "SELECT extract(epoch FROM now() - $1::interval) FROM t WHERE a = $2 AND CASE WHEN b THEN $3 END AND c = $2",
        "SELECT extract(epoch FROM now() - $1::interval) FROM t "
        "WHERE a = $2 AND CASE WHEN b THEN $3::boolean END AND c = $2",
    ]


@given(st.text())
def test_a_statement_without_parameters_stays_as_it_is(text: str) -> None:
    assert spellings(text.replace("$", "")) == [text.replace("$", "")]
