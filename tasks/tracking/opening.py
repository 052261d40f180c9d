"""Whether runs can be kept and models registered: asked before anything costs."""

from psomerge.errors import ConfigError
from psomerge.tasks.tracking.addresses import database
from psomerge.tasks.tracking.run import connect
from psomerge.tasks.tracking.store import Store, check_model_name


def open_stores(store: Store, *, model: str | None = None, make: bool = True) -> None:
    """Returns once tracking store and registry have answered.

    Args:
        store: of a run.
        model: name that a version will be registered under; None where none will be.
        make: whether a database that is missing is made; else nobody is asked where one is.

    Raises:
        ConfigError: no store can be at an address, or the registry takes no such name, or no run's models.
        ServiceError: one does not answer, or refuses.
        SpaceError: one cannot be written.
    """
    if model is not None:
        check_model_name(model, store.registry_uri)
        if store.registry_uri.startswith("uc:"):
            raise ConfigError(
                f"the registry at {store.registry} keeps neither tags nor aliases, by which versions are found again "
                "and promoted; models can be read from there: name another in MLFLOW_REGISTRY_URI to register in"
            )
    store.check()
    files = [database(uri) for uri in (store.tracking_uri, store.registry_uri)]
    if not make and any(file and not file.exists() for file in files):
        return
    with connect(store) as client:
        client.search_experiments(max_results=1)
        client.search_registered_models(max_results=1)
