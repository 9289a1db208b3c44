"""hatchling's build hook: builds the compiled part (hostvm/native) if there is a C compiler, else goes without."""

from __future__ import annotations

import sysconfig
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDER = "hostvm/native"


class NativeBuildHook(BuildHookInterface[Any]):
    """What hatchling calls."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile beside the sources, for an editable installation; have a wheel carry the result."""
        folder = Path(self.root) / FOLDER
        builder = _load(folder / "build.py")
        reason = builder.build(folder)
        if reason is not None:
            self.app.display_warning(
                f"lgreplay goes without its compiled part, because {reason} (slower, otherwise the same)"
            )
        elif version != "editable":
            build_data["artifacts"].append(f"{FOLDER}/{builder.LIBRARY}")
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{_platform_tag()}"


def _load(path: Path) -> Any:
    spec = spec_from_file_location("native_build", path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _platform_tag() -> str:
    return sysconfig.get_platform().replace("-", "_").replace(".", "_")
