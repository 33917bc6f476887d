"""Check shard sets, or compare two: `python -m pipelines.verify check shards/pdf`, `… diff shards/old shards/new`."""

from __future__ import annotations

import argparse

from pipelines.verify.check import check
from pipelines.verify.diff import compare
from varyforge.commands import program
from varyforge.console import say, show_table
from varyforge.errors import command

_ROWS = 40


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    command_line = argparse.ArgumentParser(
        prog=program("pipelines.verify"),
        description="Check shard sets, or list the differences between two sets.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""examples:
  python -m pipelines.verify check shards/pdf                  all hashes and sums; exit status 1 if one is wrong
  python -m pipelines.verify diff shards/pdf-v1 shards/pdf-v2  differences by document and reason""",
    )
    verbs = command_line.add_subparsers(dest="verb", required=True)
    one = verbs.add_parser("check", help="recompute hashes and sums: inputs = written + rejected + failed")
    one.add_argument("shards", nargs="+", help="folders or URLs of shard sets")
    two = verbs.add_parser("diff", help="list differences by document and reason; exit status 1 if there is one")
    two.add_argument("old", help="folder or URL of a shard set")
    two.add_argument("new", help="folder or URL of a shard set")
    return command_line


def show_check(location: str) -> bool:
    """Check one set, print the result and return whether the set is sound."""
    findings = check(location)
    rows: list[tuple[str, object]] = [("shards", findings.shards), ("units", findings.units)]
    rows += [(f"  {kind}", findings.outcomes[kind]) for kind in ("written", "rejected", "failed")]
    rows += [("samples", findings.samples), ("bytes of tars", findings.bytes), ("problems", len(findings.problems))]
    show_table(location, ("", "count"), rows)
    for problem in findings.problems:
        say(f"{location}: {problem}")
    say(f"{location}: " + (f"{len(findings.problems)} problems" if findings.problems else "sound"))
    return not findings.problems


def show_difference(old: str, new: str) -> bool:
    """Compare two sets, print the differences and return whether there are none."""
    changes = compare(old, new)
    for key, change in changes.config:
        say(f"{key}: {change}")
    rows: list[tuple[str, str, object]] = [
        (document, reason, count)
        for (document, reason), count in sorted(changes.units.items(), key=lambda item: (-item[1], item[0]))
    ]
    if rows:
        show_table(f"{old} → {new}", ("document", "difference", "units"), rows[:_ROWS])
    if len(rows) > _ROWS:
        say(f"… and {len(rows) - _ROWS} more")
    same, changed = changes.shards_equal, changes.shards_changed
    say(f"shards: {same} equal, {changed} changed, {changes.shards_added} added, {changes.shards_removed} removed")
    return not (changes.config or changes.units or changed or changes.shards_added or changes.shards_removed)


@command
def main() -> int:
    """Parse the command line and check or compare."""
    arguments = parser().parse_args()
    if arguments.verb == "check":
        sound = [show_check(location) for location in arguments.shards]  # a list: a bad set ends no loop
        return 0 if all(sound) else 1
    return 0 if show_difference(arguments.old, arguments.new) else 1


if __name__ == "__main__":
    main()
