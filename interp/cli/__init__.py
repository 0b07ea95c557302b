"""The command `interp`: questions asked from a terminal. Every answer is also there as --json."""

from __future__ import annotations


def main() -> None:
    """Run the command that was typed. An interrupt is exit status 130 at any moment, also in the
    seconds in which torch is imported."""
    try:
        from interp.cli.commands import run

        run()
    except KeyboardInterrupt:
        raise SystemExit(130) from None
