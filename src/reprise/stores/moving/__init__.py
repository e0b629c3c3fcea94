"""Moving house: runs leave a store for an archive, come back from one, or go to another store."""

from reprise.stores.moving.backing_up import BackedUp, Restored, back_up_store, restore_store
from reprise.stores.moving.cache import CachePruned, prune_cache
from reprise.stores.moving.copying import Copied, copy_store
from reprise.stores.moving.exporting import Exported, export_runs, export_store
from reprise.stores.moving.importing import Imported, import_runs
from reprise.stores.moving.pruning import Pruned, prune

__all__ = [
    "BackedUp",
    "CachePruned",
    "Copied",
    "Exported",
    "Imported",
    "Pruned",
    "Restored",
    "back_up_store",
    "copy_store",
    "export_runs",
    "export_store",
    "import_runs",
    "prune",
    "prune_cache",
    "restore_store",
]
