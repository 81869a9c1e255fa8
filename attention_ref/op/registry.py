"""The registries: every op of a package, found by looking into its folder when somebody first asks."""

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from functools import cached_property
from types import ModuleType
from typing import Any

from attention_ref.op.op import Op
from attention_ref.op.protocol import is_op


class Lazy(MutableMapping[str, Any]):
    """A mapping that is made when it is first looked into, so that importing the package stays cheap."""

    def __init__(self, make: Callable[[], dict[str, Any]]):
        self.make = make

    @cached_property
    def made(self) -> dict[str, Any]:
        return self.make()

    def __getitem__(self, name: str) -> Any:
        return self.made[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self.made[name] = value

    def __delitem__(self, name: str) -> None:
        del self.made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.made)

    def __len__(self) -> int:
        return len(self.made)

    def __or__(self, other: Mapping[str, Any]) -> dict[str, Any]:
        return self.made | dict(other)

    def __repr__(self) -> str:
        return f"<{len(self)}: {', '.join(self)}>"


def where_written(op: Op) -> tuple[bool, str]:
    """A key to sort by: the documents first, which have numbers of three digits, in their order."""
    return not op.source[:3].isdigit(), op.source


def modules(package: str, path: Iterable[str]) -> dict[str, ModuleType]:
    """The modules of a room, in alphabetical order."""
    return {m.name: importlib.import_module(f"{package}.{m.name}") for m in pkgutil.iter_modules(path)}


def discover(package: str, path: Iterable[str], make_op: Callable[[str, Any], Op] = Op) -> Lazy:
    """The ops of a package, by name: every module in it with the four names."""
    prefix = package.rpartition(".")[2]

    def make() -> dict[str, Op]:
        found = {f"{prefix}.{name}": m for name, m in modules(package, path).items() if is_op(m)}
        return {name: make_op(name, m) for name, m in found.items()}

    return Lazy(make)
