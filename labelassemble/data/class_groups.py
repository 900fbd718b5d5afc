"""Groups of class names as they stand in YAML."""


def class_groups(value: object, *, instead: str = "") -> tuple[tuple[str, ...], ...]:
    """Return groups of names; a plain list of names is one group.

    Args:
        value: What stands there.
        instead: What else may stand there, for the message.

    Raises:
        ValueError: It is something else, or a group does not name two or more different classes.
    """
    groups = value if isinstance(value, (list, tuple)) else ()
    if groups and all(isinstance(name, str) for name in groups):
        groups = [groups]
    if value != () and (
        not groups
        or not all(
            isinstance(group, (list, tuple)) and all(isinstance(name, str) and name for name in group)
            for group in groups
        )
    ):
        raise ValueError(f"must be {instead}groups of classes such as [[melanoma, nevus]], got {value!r}")
    for group in groups:
        if len(set(group)) < max(2, len(group)):
            raise ValueError(f"a group must name two or more different classes, got {list(group)}")
    return tuple(tuple(group) for group in groups)
