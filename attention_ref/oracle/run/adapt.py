"""A candidate in any framework as one in NumPy: named, recognized, or found out by calling it once."""

from attention_ref.backend import find, recognize
from attention_ref.backend.adapted import Adapted, Given
from attention_ref.errors import OptionError
from attention_ref.oracle.bounds import number_formats
from attention_ref.oracle.cases.case import Case, Size, build
from attention_ref.oracle.run import candidate as calling

TRIAL = Case("trial", "to see which arrays come back", Size(3, 5, 4, 2, batch=1, heads=2))
TRIAL_SECONDS = 60.0


def adapt(candidate, backward, backend, device, rule):
    """(adapter, candidate, backward) with the last two in NumPy; backward=None is then the framework's own."""
    name = backend or backend_of(candidate, rule)
    adapter = find(name, device)
    if name == "numpy":
        if device not in (None, "cpu"):
            raise OptionError(f"check: device={device!r} is for a framework's function; give backend= too")
        return adapter, candidate, backward or None
    adapted = Adapted(adapter, candidate)
    if backward is None:
        backward = adapted.backward()
    elif backward is not False:
        backward = Given(adapter, backward)
    return adapter, adapted, backward or None


def backend_of(candidate, rule):
    """The name of the backend that a candidate is for."""
    found = recognize.certain(candidate)
    if found:
        return found
    if not callable(candidate):
        return "numpy"
    mentioned = recognize.mentioned(candidate)
    possible = mentioned or recognize.imported(candidate)
    if not possible:
        return "numpy"
    returned = tried(candidate, rule)
    if returned is not None:
        found = recognize.of_value(returned) or "numpy"
        return "keras" if "keras" in possible and find("keras").arrays_of == found else found
    for name in possible:
        adapter = find(name)
        returned = tried(candidate, rule, adapter)
        if returned is not None and adapter.owns(returned):
            return name
    return mentioned[0] if mentioned else "numpy"


def tried(candidate, rule, adapter=None):
    """The first array that a candidate returns in a trial; None if it has none or fails."""
    inputs = build(TRIAL, rule, number_formats.find("float32"))
    convert = adapter.value if adapter else lambda x: x
    arrays = {name: convert(x) for name, x in inputs.arrays.items()}
    options = {name: convert(x) for name, x in inputs.options.items()}
    returned, _ = calling.limited(calling.Call(candidate, arrays, options, TRIAL_SECONDS))
    if isinstance(returned, dict):
        returned = list(returned.values())
    if isinstance(returned, (tuple, list)):
        returned = next((x for x in returned if x is not None), None)
    return None if returned is None or isinstance(returned, (int, float, str)) else returned
