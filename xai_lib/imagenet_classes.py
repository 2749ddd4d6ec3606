"""The names of the 1,000 ImageNet classes, as torchvision ships them."""

import importlib.util
from functools import cache
from pathlib import Path


@cache
def imagenet_classes() -> tuple[str, ...]:
    """The names in the order of the logits; all differ ("crane bird" and "crane", for instance).

    Runs only the file that holds them: `import torchvision` takes two seconds, and nothing else is needed of it here.

    Raises:
        ImportError: torchvision is not installed, or keeps the names elsewhere.

    >>> imagenet_classes()[920]
    'traffic light'
    """
    package = importlib.util.find_spec("torchvision")
    if package is None or not package.submodule_search_locations:
        raise ImportError("torchvision is not installed; the names of the ImageNet classes come with it")
    path = Path(package.submodule_search_locations[0]) / "models" / "_meta.py"
    spec = importlib.util.spec_from_file_location("xai_lib._torchvision_meta", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ImportError(f"{path}: not found; this version of torchvision keeps the names of the ImageNet classes elsewhere")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return tuple(module._IMAGENET_CATEGORIES)
