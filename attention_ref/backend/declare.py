"""Which options a function takes, and how another one says that it takes the same."""

import inspect

ARRAYS = ("q", "k", "v")


def parameter(name, default=inspect.Parameter.empty):
    return inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default)


def keyword(name, default=None):
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default)


def declaring(function, options, name=None, arrays=ARRAYS):
    """The function with a signature: these arrays, and these options by name; None = any option."""
    parameters = [parameter(array) for array in arrays]
    if options is None:
        parameters.append(inspect.Parameter("options", inspect.Parameter.VAR_KEYWORD))
    else:
        parameters += [keyword(option) for option in options]
    function.__signature__ = inspect.Signature(parameters)
    if name:
        function.__name__ = function.__qualname__ = name
    return function


def declared(function, positional=3):
    """The names of the options that a function declares after its positional arguments; None if it takes any."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return None
    if any(p.kind == p.VAR_KEYWORD for p in parameters):
        return None
    first = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)][:positional]
    return {p.name for p in parameters if p not in first and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}


def takes_dlse(backward):
    """Does a backward take a cotangent of lse?"""
    names = declared(backward, 6)
    return names is None or "dlse" in names
