"""Trust in shard sets: `python -m pipelines.verify check shards/pdf`, `… diff shards/old shards/new`."""

from __future__ import annotations

import argparse

from pipelines.verify.check import check
from pipelines.verify.diff import compare
from varyforge.console import say, show_table
from varyforge.errors import command

_ROWS = 40


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m pipelines.verify",
        description="Checks shard sets, and says what changed from one to another.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""examples:
  python -m pipelines.verify check shards/pdf                  every hash and every sum; exit status 1 if one is wrong
  python -m pipelines.verify diff shards/pdf-v1 shards/pdf-v2  what changed, by document and reason""",
    )
    verbs = made.add_subparsers(dest="verb", required=True)
    one = verbs.add_parser("check", help="recompute hashes and sums: inputs = written + rejected + failed")
    one.add_argument("shards", nargs="+", help="folders or URLs of shard sets")
    two = verbs.add_parser("diff", help="what changed, by document and reason; exit status 1 if anything did")
    two.add_argument("old")
    two.add_argument("new")
    return made


def show_check(place: str) -> bool:
    """Checks one set and shows what was found; True where it is sound."""
    found = check(place)
    rows: list[tuple[str, object]] = [("shards", found.shards), ("units", found.units)]
    rows += [(f"  {kind}", found.outcomes[kind]) for kind in ("written", "rejected", "failed")]
    rows += [("samples", found.samples), ("bytes of tars", found.bytes), ("problems", len(found.problems))]
    show_table(place, ("", "count"), rows)
    for problem in found.problems:
        say(f"{place}: {problem}")
    say(f"{place}: " + (f"{len(found.problems)} problems" if found.problems else "sound"))
    return not found.problems


def show_difference(old: str, new: str) -> bool:
    """Compares two sets and shows what changed; True where nothing did."""
    found = compare(old, new)
    for key, change in found.config:
        say(f"{key}: {change}")
    rows: list[tuple[str, str, object]] = [
        (document, reason, count)
        for (document, reason), count in sorted(found.units.items(), key=lambda item: (-item[1], item[0]))
    ]
    if rows:
        show_table(f"{old} → {new}", ("document", "what happened", "units"), rows[:_ROWS])
    if len(rows) > _ROWS:
        say(f"… and {len(rows) - _ROWS} more")
    same, changed = found.shards_equal, found.shards_changed
    say(f"shards: {same} equal, {changed} changed, {found.shards_added} added, {found.shards_removed} removed")
    return not (found.config or found.units or changed or found.shards_added or found.shards_removed)


@command
def main() -> int:
    """Parses the command line and checks or compares."""
    arguments = parser().parse_args()
    if arguments.verb == "check":
        sound = [show_check(place) for place in arguments.shards]  # all of them, also after a bad one
        return 0 if all(sound) else 1
    return 0 if show_difference(arguments.old, arguments.new) else 1


if __name__ == "__main__":
    main()
