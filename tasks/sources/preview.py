"""The models that a run will use, as far as they are known before the first gigabyte: wherever they live, side by side,
and everything that is wrong with them.

Branches and tags are resolved here, and recorded only by `keep`, as fetching does: what is planned is then what is run;
a plan that is refused binds nobody.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from psomerge.checkpoint.reader import Checkpoint, open_checkpoint
from psomerge.errors import PsomergeError
from psomerge.merge.basis import open_expert
from psomerge.tasks.sources.fetch import here
from psomerge.tasks.sources.hub import address as snapshots
from psomerge.tasks.sources.hub import look as hub_look
from psomerge.tasks.sources.registry import fetch as registered
from psomerge.tasks.sources.registry import look as registered_look
from psomerge.tasks.sources.s3 import address as s3_snapshots
from psomerge.tasks.sources.s3 import look as s3_look
from psomerge.tasks.sources.shelf.filling import Progress
from psomerge.tasks.sources.shelf.headers import Look
from psomerge.tasks.tracking.store import REGISTERED, Store

See = Callable[[str, str, Path, Checkpoint | None, Progress], tuple[str, Look, Callable[[], None]]]
"""`see` of `tasks.sources.hub.look` and of `tasks.sources.s3.look`."""


@dataclass(frozen=True)
class Preview:
    """A model as far as it is known without fetching or training it."""

    name: str
    """`base`, or an expert's name."""
    address: str
    """As given."""
    source: str
    """With the commit or version instead of a branch, tag or alias, where that is known."""
    checkpoint: Checkpoint | None
    """Without values where `to_fetch` names weights or it is to be trained; None where not even the headers can be
    seen."""
    to_fetch: Mapping[str, int] = field(default_factory=dict)
    """Bytes of each file that is still to be fetched, by name."""
    to_train: bool = False
    unseen: str = ""
    """What is known only once it is fetched; empty where the headers tell."""
    keep: Callable[[], None] = lambda: None
    """Records what the address means, as fetching does."""

    @property
    def whole(self) -> bool:
        """Whether all of it is on this machine."""
        return not self.to_fetch and not self.to_train and self.checkpoint is not None


def preview_all(
    addresses: Mapping[str, str], home: Path, progress: Progress, store: Callable[[], Store]
) -> tuple[dict[str, Preview], dict[str, PsomergeError]]:
    """Returns what is known of the models by name, and what each of the others failed with.

    Args:
        addresses: of `base` and the experts, by name; as of `tasks.sources.fetch.fetch`.
        home: PSOMERGE_HOME.
        progress: told where another process has to be waited for.
        store: gives the model registry; called for the registry's addresses only.
    """

    def attempt(name: str, base: Checkpoint | None) -> Preview | PsomergeError:
        try:
            return _preview(name, addresses[name], home, progress, base) or _registered(
                name, addresses[name], home, base, store
            )
        except PsomergeError as error:
            return error

    # The base first: what the experts' tokenizers have in common with it is copied.
    found = {"base": attempt("base", None)}
    base = found["base"].checkpoint if isinstance(found["base"], Preview) else None
    experts = [name for name in addresses if name != "base"]
    with ThreadPoolExecutor(max_workers=max(1, len(experts))) as pool:
        found |= dict(zip(experts, pool.map(lambda name: attempt(name, base), experts), strict=True))
    previews = {name: one for name, one in found.items() if isinstance(one, Preview)}
    return previews, {name: one for name, one in found.items() if isinstance(one, PsomergeError)}


def _preview(name: str, address: str, home: Path, progress: Progress, base: Checkpoint | None) -> Preview | None:
    """What is known of a model that is here, of the hub, of S3 or embedded."""
    if found := here(address, home):
        return Preview(
            name,
            address,
            found.source,
            open_checkpoint(found.folder, name) if base is None else open_expert(found.folder, name, base),
        )
    if see := _seen_from_afar(address):
        source, seen, keep = see(address, name, home, base, progress)
        return Preview(
            name,
            address,
            source,
            seen.checkpoint,
            seen.to_fetch,
            unseen="" if seen.checkpoint else "whether it fits",
            keep=keep,
        )
    if address.startswith("embedded://"):
        from psomerge.tasks.building.embedded.shapes import untrained

        return Preview(name, address, address, untrained(home, name), to_train=True)
    return None


def _seen_from_afar(address: str) -> See | None:
    if address.startswith(snapshots.PREFIX):
        return hub_look.see
    return s3_look.see if address.startswith(s3_snapshots.PREFIX) else None


def _registered(name: str, address: str, home: Path, base: Checkpoint | None, store: Callable[[], Store]) -> Preview:
    """What is known of a version of the registry that is not copied yet, or of a model that nothing can be asked about
    before it is fetched."""
    if not address.startswith(REGISTERED):
        return Preview(name, address, address, None, unseen="whether it fits")
    registry = store()
    copy = registered.resolve(address, home, registry)
    seen = registered_look.look(copy, name, base, registry)
    unseen = "" if seen.by_headers else "whether its tensors fit"
    return Preview(
        name,
        address,
        copy.address,
        seen.checkpoint,
        seen.sizes,
        unseen=unseen,
        keep=lambda: registered.keep(address, copy),
    )
