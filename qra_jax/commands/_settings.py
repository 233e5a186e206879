"""Settings that are out of range."""


class BadSetting(Exception):
    """A setting of a command that is out of range.

    Not a `ValueError`: tyro would put one into a box of several lines, and the command line
    answers bad input with one line.
    """


def require_setting(ok: bool, name: str, must: str, was: object) -> None:
    """Raise `BadSetting` unless a setting is what it must be."""
    if not ok:
        raise BadSetting(f"{name} must {must}, got {was}")
