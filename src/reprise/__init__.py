"""Durable multi-agent orchestration: every public name, loaded when it is first asked for.

``import reprise`` imports nothing else; ``reprise.RunFailed`` imports the module that ``_EXPORTS`` names for it.
"""

import sys
from importlib import import_module

TYPE_CHECKING = False
"""True to type checkers, which know the name; importing ``typing`` for it would take longer than all the rest."""

__version__ = "0.1.0"

_EXPORTS: dict[str, str] = {
    "mcp_app": "reprise.app.mcp",
    "mcp_offer": "reprise.app.mcp",
    "Reprise": "reprise.app.reprise",
    "load_settings": "reprise.cli.config",
    "DeadLetters": "reprise.coordination.dead_letters",
    "DistributedLock": "reprise.coordination.distributed_lock",
    "HeldLock": "reprise.coordination.distributed_lock",
    "LockHolder": "reprise.coordination.distributed_lock",
    "LeaderElection": "reprise.coordination.leader",
    "LockManager": "reprise.coordination.locks",
    "SyncLockManager": "reprise.coordination.locks",
    "StateSyncManager": "reprise.coordination.managing",
    "AddToSet": "reprise.coordination.merging",
    "Increment": "reprise.coordination.merging",
    "RemoveFromSet": "reprise.coordination.merging",
    "TaskQueue": "reprise.coordination.queue",
    "QueueRelay": "reprise.coordination.relay",
    "StateEntry": "reprise.coordination.snapshots",
    "StateSnapshot": "reprise.coordination.snapshots",
    "StateWrite": "reprise.coordination.snapshots",
    "StateSync": "reprise.coordination.state",
    "SyncHeldLock": "reprise.coordination.sync_lock",
    "SyncLock": "reprise.coordination.sync_lock",
    "SyncTaskQueue": "reprise.coordination.sync_queue",
    "Task": "reprise.coordination.tasks",
    "TaskAttempt": "reprise.coordination.tasks",
    "TaskInfo": "reprise.coordination.tasks",
    "TaskQueueStats": "reprise.coordination.tasks",
    "Leader": "reprise.coordination.terms",
    "Term": "reprise.coordination.terms",
    "StateUpdate": "reprise.coordination.updates",
    "QueueWorker": "reprise.coordination.worker",
    "Budget": "reprise.kernel.budget",
    "Cost": "reprise.kernel.budget",
    "Clock": "reprise.kernel.clock",
    "SystemClock": "reprise.kernel.clock",
    "VirtualClock": "reprise.kernel.clock",
    "AmbiguousId": "reprise.kernel.errors",
    "AnswerRefused": "reprise.kernel.errors",
    "AppendRefused": "reprise.kernel.errors",
    "ArchiveCorrupt": "reprise.kernel.errors",
    "BodyError": "reprise.kernel.errors",
    "BudgetExceeded": "reprise.kernel.errors",
    "BusyBodyError": "reprise.kernel.errors",
    "CellConflict": "reprise.kernel.errors",
    "ChunksGone": "reprise.kernel.errors",
    "ClaimLost": "reprise.kernel.errors",
    "CodecError": "reprise.kernel.errors",
    "ConfigurationError": "reprise.kernel.errors",
    "CopyDiffers": "reprise.kernel.errors",
    "DeadlineExceeded": "reprise.kernel.errors",
    "DeadlockDetected": "reprise.kernel.errors",
    "EffectNotOpen": "reprise.kernel.errors",
    "Evicted": "reprise.kernel.errors",
    "ExpressionInvalid": "reprise.kernel.errors",
    "FeedGone": "reprise.kernel.errors",
    "ForkRefused": "reprise.kernel.errors",
    "InvalidTransition": "reprise.kernel.errors",
    "KeyMissing": "reprise.kernel.errors",
    "LeadershipLost": "reprise.kernel.errors",
    "LeaseLost": "reprise.kernel.errors",
    "LockLost": "reprise.kernel.errors",
    "LockNotAcquired": "reprise.kernel.errors",
    "MemoryExceeded": "reprise.kernel.errors",
    "MigrationRefused": "reprise.kernel.errors",
    "MissingExtra": "reprise.kernel.errors",
    "NoRoom": "reprise.kernel.errors",
    "NoSuchRecord": "reprise.kernel.errors",
    "NonDeterminismError": "reprise.kernel.errors",
    "OutcomeUnknown": "reprise.kernel.errors",
    "OutcomeUnknownStep": "reprise.kernel.errors",
    "PayloadTooLarge": "reprise.kernel.errors",
    "PlanFailed": "reprise.kernel.errors",
    "PlanInvalid": "reprise.kernel.errors",
    "ProcessDied": "reprise.kernel.errors",
    "QueryError": "reprise.kernel.errors",
    "QuestionClosed": "reprise.kernel.errors",
    "ReplyGone": "reprise.kernel.errors",
    "RepriseError": "reprise.kernel.errors",
    "ResultRefused": "reprise.kernel.errors",
    "ResultTimeout": "reprise.kernel.errors",
    "RetryRefused": "reprise.kernel.errors",
    "RuleNotMet": "reprise.kernel.errors",
    "RunCancelled": "reprise.kernel.errors",
    "RunConflict": "reprise.kernel.errors",
    "RunEnded": "reprise.kernel.errors",
    "RunError": "reprise.kernel.errors",
    "RunFailed": "reprise.kernel.errors",
    "RunNeedsAttention": "reprise.kernel.errors",
    "RunNotFound": "reprise.kernel.errors",
    "RunPaused": "reprise.kernel.errors",
    "RunStranded": "reprise.kernel.errors",
    "SagaFailed": "reprise.kernel.errors",
    "ScheduleNotFound": "reprise.kernel.errors",
    "SchemaTooNew": "reprise.kernel.errors",
    "SignalTypeError": "reprise.kernel.errors",
    "StaleToken": "reprise.kernel.errors",
    "StaleVersion": "reprise.kernel.errors",
    "StateConflict": "reprise.kernel.errors",
    "StateTypeError": "reprise.kernel.errors",
    "StepError": "reprise.kernel.errors",
    "StepFailed": "reprise.kernel.errors",
    "StepRefused": "reprise.kernel.errors",
    "StepSkipped": "reprise.kernel.errors",
    "StepTimeout": "reprise.kernel.errors",
    "StoreClosed": "reprise.kernel.errors",
    "StoreCorrupt": "reprise.kernel.errors",
    "StoreError": "reprise.kernel.errors",
    "StoreFull": "reprise.kernel.errors",
    "StoreLocked": "reprise.kernel.errors",
    "StoreReadOnly": "reprise.kernel.errors",
    "StoreUnreachable": "reprise.kernel.errors",
    "StreamClosed": "reprise.kernel.errors",
    "StreamMissing": "reprise.kernel.errors",
    "StuckBodyError": "reprise.kernel.errors",
    "TaskFailed": "reprise.kernel.errors",
    "TaskNotFound": "reprise.kernel.errors",
    "ToolError": "reprise.kernel.errors",
    "UnknownAgent": "reprise.kernel.errors",
    "UnknownHandler": "reprise.kernel.errors",
    "UnknownOption": "reprise.kernel.errors",
    "UnknownWorkflow": "reprise.kernel.errors",
    "UnsupportedFileSystem": "reprise.kernel.errors",
    "UpdateRefused": "reprise.kernel.errors",
    "Event": "reprise.kernel.events",
    "Kind": "reprise.kernel.events",
    "Record": "reprise.kernel.events",
    "Said": "reprise.kernel.events",
    "register_error": "reprise.kernel.failures",
    "Limit": "reprise.kernel.limit",
    "Machine": "reprise.kernel.machine",
    "RunStatus": "reprise.kernel.machine",
    "Message": "reprise.kernel.message",
    "METRICS": "reprise.kernel.metrics",
    "Fault": "reprise.kernel.policy",
    "Retry": "reprise.kernel.policy",
    "Timeout": "reprise.kernel.policy",
    "days": "reprise.kernel.policy",
    "hours": "reprise.kernel.policy",
    "minutes": "reprise.kernel.policy",
    "weeks": "reprise.kernel.policy",
    "MessagePriority": "reprise.kernel.priority",
    "Priority": "reprise.kernel.priority",
    "TaskPriority": "reprise.kernel.priority",
    "WorkflowPriority": "reprise.kernel.priority",
    "Ballot": "reprise.kernel.rules",
    "Verdict": "reprise.kernel.rules",
    "majority": "reprise.kernel.rules",
    "plurality": "reprise.kernel.rules",
    "ranked_choice": "reprise.kernel.rules",
    "supermajority": "reprise.kernel.rules",
    "unanimous": "reprise.kernel.rules",
    "weighted": "reprise.kernel.rules",
    "Secret": "reprise.kernel.settings",
    "Settings": "reprise.kernel.settings",
    "AgentRegistry": "reprise.runtime.agents",
    "ask": "reprise.runtime.asking",
    "Batch": "reprise.runtime.batch",
    "budget": "reprise.runtime.budgets",
    "spend": "reprise.runtime.budgets",
    "Checked": "reprise.runtime.checking",
    "Finding": "reprise.runtime.checking",
    "Fit": "reprise.runtime.checking",
    "Misfit": "reprise.runtime.checking",
    "check_runs": "reprise.runtime.checking",
    "Comparison": "reprise.runtime.comparing",
    "Chunk": "reprise.runtime.dialogue",
    "OpenQuestion": "reprise.runtime.dialogue",
    "EffectRow": "reprise.runtime.effect_rows",
    "Executor": "reprise.runtime.executors.executor",
    "CurrentRun": "reprise.runtime.face",
    "CurrentStep": "reprise.runtime.face",
    "continue_as": "reprise.runtime.face",
    "current_run": "reprise.runtime.face",
    "current_step": "reprise.runtime.face",
    "progress": "reprise.runtime.face",
    "set_tags": "reprise.runtime.face",
    "wait_for_signal": "reprise.runtime.face",
    "Fork": "reprise.runtime.forking",
    "RunHandle": "reprise.runtime.handle",
    "Done": "reprise.runtime.intents",
    "Intent": "reprise.runtime.intents",
    "NOT_DONE": "reprise.runtime.intents",
    "UNKNOWN": "reprise.runtime.intents",
    "Call": "reprise.runtime.middleware",
    "Heard": "reprise.runtime.migrating",
    "Migration": "reprise.runtime.migrating",
    "Onward": "reprise.runtime.migrating",
    "Past": "reprise.runtime.migrating",
    "RunState": "reprise.runtime.moments",
    "StepState": "reprise.runtime.moments",
    "Outbox": "reprise.runtime.outbox",
    "outbox": "reprise.runtime.outbox",
    "deprecate_patch": "reprise.runtime.patching",
    "patched": "reprise.runtime.patching",
    "query": "reprise.runtime.queries",
    "Replay": "reprise.runtime.replaying",
    "Spent": "reprise.runtime.spent",
    "Step": "reprise.runtime.step",
    "step": "reprise.runtime.step",
    "Stream": "reprise.runtime.streams",
    "stream": "reprise.runtime.streams",
    "Undo": "reprise.runtime.undo",
    "let_stay": "reprise.runtime.undo",
    "set_undo": "reprise.runtime.undo",
    "update": "reprise.runtime.updates",
    "Workflow": "reprise.runtime.workflow",
    "workflow": "reprise.runtime.workflow",
    "open_store": "reprise.stores",
    "verify_archive": "reprise.stores.archive.reading",
    "back_up_store": "reprise.stores.moving.backing_up",
    "restore_store": "reprise.stores.moving.backing_up",
    "CachePruned": "reprise.stores.moving.cache",
    "prune_cache": "reprise.stores.moving.cache",
    "copy_store": "reprise.stores.moving.copying",
    "export_runs": "reprise.stores.moving.exporting",
    "import_runs": "reprise.stores.moving.importing",
    "prune": "reprise.stores.moving.pruning",
    "KeyRing": "reprise.stores.packing.keys",
    "RunRow": "reprise.stores.runs",
    "SQLiteConnection": "reprise.stores.sqlite.lending",
    "tail": "reprise.stores.tail",
    "ToolCalled": "reprise.tools.calling",
    "ToolResult": "reprise.tools.calling",
    "ToolContext": "reprise.tools.context",
    "NetworkAccess": "reprise.tools.guards.network",
    "FileRoots": "reprise.tools.guards.paths",
    "create_builtin_tools_library": "reprise.tools.library",
    "FunctionSummarizer": "reprise.tools.library.texts.summaries",
    "Summarizer": "reprise.tools.library.texts.summaries",
    "DeepL": "reprise.tools.library.texts.translation",
    "FunctionTranslator": "reprise.tools.library.texts.translation",
    "LibreTranslate": "reprise.tools.library.texts.translation",
    "Translation": "reprise.tools.library.texts.translation",
    "Translator": "reprise.tools.library.texts.translation",
    "BraveSearch": "reprise.tools.library.web.searching",
    "SearXNG": "reprise.tools.library.web.searching",
    "TavilySearch": "reprise.tools.library.web.searching",
    "WebSearch": "reprise.tools.library.web.searching",
    "MCPMount": "reprise.tools.mcp.mount",
    "Credentials": "reprise.tools.openapi.credentials",
    "OperationOptions": "reprise.tools.openapi.options",
    "OpenAPIParser": "reprise.tools.openapi.parser",
    "OpenAPIReport": "reprise.tools.openapi.report",
    "PluginManager": "reprise.tools.plugins.manager",
    "PluginRegistry": "reprise.tools.plugins.registering",
    "ToolPolicy": "reprise.tools.policy",
    "ToolRequest": "reprise.tools.policy",
    "ToolRegistry": "reprise.tools.registry",
    "ToolScope": "reprise.tools.scope",
    "Example": "reprise.tools.tool",
    "Tool": "reprise.tools.tool",
    "tool": "reprise.tools.tool",
    "AgentChain": "reprise.workflows.chain",
    "ChainResult": "reprise.workflows.chain_result",
    "LinkResult": "reprise.workflows.chain_result",
    "Choreography": "reprise.workflows.choreography",
    "SagaStory": "reprise.workflows.choreography",
    "StepEnded": "reprise.workflows.executing",
    "load_plan": "reprise.workflows.files",
    "WorkflowOrchestrator": "reprise.workflows.orchestrator",
    "PlanMetrics": "reprise.workflows.outcome",
    "PlanResult": "reprise.workflows.outcome",
    "StepOutcome": "reprise.workflows.outcome",
    "ParallelExecutor": "reprise.workflows.parallel",
    "ParallelTask": "reprise.workflows.parallel",
    "AggregationStrategy": "reprise.workflows.parallel_body",
    "ParallelMetrics": "reprise.workflows.parallel_result",
    "ParallelResult": "reprise.workflows.parallel_result",
    "TaskResult": "reprise.workflows.parallel_result",
    "Plan": "reprise.workflows.plan",
    "Saga": "reprise.workflows.saga",
    "SagaOrchestrator": "reprise.workflows.saga",
    "SagaEvent": "reprise.workflows.saga_log",
    "SagaResult": "reprise.workflows.saga_result",
    "Uncompensated": "reprise.workflows.saga_result",
    "SagaService": "reprise.workflows.saga_service",
    "SagaStep": "reprise.workflows.saga_steps",
    "Schedule": "reprise.workflows.schedule",
    "ScheduleState": "reprise.workflows.schedule",
    "Schedules": "reprise.workflows.schedules",
    "MessageBus": "reprise.workflows.services",
    "PlanStep": "reprise.workflows.steps",
    "WorkflowStep": "reprise.workflows.steps",
    "WorkflowTracker": "reprise.workflows.tracker",
}
"""Public name -> the module that defines it. The imports below say the same to type checkers; a test compares them."""

__all__ = list(_EXPORTS)  # pyright: ignore[reportUnsupportedDunderAll]


def __dir__() -> list[str]:
    """List what is public, loaded or not."""
    return sorted(["__version__", *_EXPORTS])


if TYPE_CHECKING:
    # fmt: off
    # isort: off
    from reprise.app.mcp import mcp_app as mcp_app, mcp_offer as mcp_offer
    from reprise.app.reprise import Reprise as Reprise
    from reprise.cli.config import load_settings as load_settings
    from reprise.coordination.dead_letters import DeadLetters as DeadLetters
    from reprise.coordination.distributed_lock import (
        DistributedLock as DistributedLock, HeldLock as HeldLock, LockHolder as LockHolder,
    )
    from reprise.coordination.leader import LeaderElection as LeaderElection
    from reprise.coordination.locks import LockManager as LockManager, SyncLockManager as SyncLockManager
    from reprise.coordination.managing import StateSyncManager as StateSyncManager
    from reprise.coordination.merging import (
        AddToSet as AddToSet, Increment as Increment, RemoveFromSet as RemoveFromSet,
    )
    from reprise.coordination.queue import TaskQueue as TaskQueue
    from reprise.coordination.relay import QueueRelay as QueueRelay
    from reprise.coordination.snapshots import (
        StateEntry as StateEntry, StateSnapshot as StateSnapshot, StateWrite as StateWrite,
    )
    from reprise.coordination.state import StateSync as StateSync
    from reprise.coordination.sync_lock import SyncHeldLock as SyncHeldLock, SyncLock as SyncLock
    from reprise.coordination.sync_queue import SyncTaskQueue as SyncTaskQueue
    from reprise.coordination.tasks import (
        Task as Task, TaskAttempt as TaskAttempt, TaskInfo as TaskInfo, TaskQueueStats as TaskQueueStats,
    )
    from reprise.coordination.terms import Leader as Leader, Term as Term
    from reprise.coordination.updates import StateUpdate as StateUpdate
    from reprise.coordination.worker import QueueWorker as QueueWorker
    from reprise.kernel.budget import Budget as Budget, Cost as Cost
    from reprise.kernel.clock import Clock as Clock, SystemClock as SystemClock, VirtualClock as VirtualClock
    from reprise.kernel.errors import (
        AmbiguousId as AmbiguousId, AnswerRefused as AnswerRefused, AppendRefused as AppendRefused,
        ArchiveCorrupt as ArchiveCorrupt, BodyError as BodyError, BudgetExceeded as BudgetExceeded,
        BusyBodyError as BusyBodyError, CellConflict as CellConflict, ChunksGone as ChunksGone,
        ClaimLost as ClaimLost, CodecError as CodecError, ConfigurationError as ConfigurationError,
        CopyDiffers as CopyDiffers, DeadlineExceeded as DeadlineExceeded,
        DeadlockDetected as DeadlockDetected, EffectNotOpen as EffectNotOpen, Evicted as Evicted,
        ExpressionInvalid as ExpressionInvalid, FeedGone as FeedGone, ForkRefused as ForkRefused,
        InvalidTransition as InvalidTransition, KeyMissing as KeyMissing, LeadershipLost as LeadershipLost,
        LeaseLost as LeaseLost, LockLost as LockLost, LockNotAcquired as LockNotAcquired,
        MemoryExceeded as MemoryExceeded, MigrationRefused as MigrationRefused,
        MissingExtra as MissingExtra, NoRoom as NoRoom, NoSuchRecord as NoSuchRecord,
        NonDeterminismError as NonDeterminismError, OutcomeUnknown as OutcomeUnknown,
        OutcomeUnknownStep as OutcomeUnknownStep, PayloadTooLarge as PayloadTooLarge,
        PlanFailed as PlanFailed, PlanInvalid as PlanInvalid, ProcessDied as ProcessDied,
        QueryError as QueryError, QuestionClosed as QuestionClosed, ReplyGone as ReplyGone,
        RepriseError as RepriseError, ResultRefused as ResultRefused, ResultTimeout as ResultTimeout,
        RetryRefused as RetryRefused, RuleNotMet as RuleNotMet, RunCancelled as RunCancelled,
        RunConflict as RunConflict, RunEnded as RunEnded, RunError as RunError, RunFailed as RunFailed,
        RunNeedsAttention as RunNeedsAttention, RunNotFound as RunNotFound, RunPaused as RunPaused,
        RunStranded as RunStranded, SagaFailed as SagaFailed, ScheduleNotFound as ScheduleNotFound,
        SchemaTooNew as SchemaTooNew, SignalTypeError as SignalTypeError, StaleToken as StaleToken,
        StaleVersion as StaleVersion, StateConflict as StateConflict, StateTypeError as StateTypeError,
        StepError as StepError, StepFailed as StepFailed, StepRefused as StepRefused,
        StepSkipped as StepSkipped, StepTimeout as StepTimeout, StoreClosed as StoreClosed,
        StoreCorrupt as StoreCorrupt, StoreError as StoreError, StoreFull as StoreFull,
        StoreLocked as StoreLocked, StoreReadOnly as StoreReadOnly, StoreUnreachable as StoreUnreachable,
        StreamClosed as StreamClosed, StreamMissing as StreamMissing, StuckBodyError as StuckBodyError,
        TaskFailed as TaskFailed, TaskNotFound as TaskNotFound, ToolError as ToolError,
        UnknownAgent as UnknownAgent, UnknownHandler as UnknownHandler, UnknownOption as UnknownOption,
        UnknownWorkflow as UnknownWorkflow, UnsupportedFileSystem as UnsupportedFileSystem,
        UpdateRefused as UpdateRefused,
    )
    from reprise.kernel.events import Event as Event, Kind as Kind, Record as Record, Said as Said
    from reprise.kernel.failures import register_error as register_error
    from reprise.kernel.limit import Limit as Limit
    from reprise.kernel.machine import Machine as Machine, RunStatus as RunStatus
    from reprise.kernel.message import Message as Message
    from reprise.kernel.metrics import METRICS as METRICS
    from reprise.kernel.policy import (
        Fault as Fault, Retry as Retry, Timeout as Timeout, days as days, hours as hours,
        minutes as minutes, weeks as weeks,
    )
    from reprise.kernel.priority import (
        MessagePriority as MessagePriority, Priority as Priority, TaskPriority as TaskPriority,
        WorkflowPriority as WorkflowPriority,
    )
    from reprise.kernel.rules import (
        Ballot as Ballot, Verdict as Verdict, majority as majority, plurality as plurality,
        ranked_choice as ranked_choice, supermajority as supermajority, unanimous as unanimous,
        weighted as weighted,
    )
    from reprise.kernel.settings import Secret as Secret, Settings as Settings
    from reprise.runtime.agents import AgentRegistry as AgentRegistry
    from reprise.runtime.asking import ask as ask
    from reprise.runtime.batch import Batch as Batch
    from reprise.runtime.budgets import budget as budget, spend as spend
    from reprise.runtime.checking import (
        Checked as Checked, Finding as Finding, Fit as Fit, Misfit as Misfit, check_runs as check_runs,
    )
    from reprise.runtime.comparing import Comparison as Comparison
    from reprise.runtime.dialogue import Chunk as Chunk, OpenQuestion as OpenQuestion
    from reprise.runtime.effect_rows import EffectRow as EffectRow
    from reprise.runtime.executors.executor import Executor as Executor
    from reprise.runtime.face import (
        CurrentRun as CurrentRun, CurrentStep as CurrentStep, continue_as as continue_as,
        current_run as current_run, current_step as current_step, progress as progress,
        set_tags as set_tags, wait_for_signal as wait_for_signal,
    )
    from reprise.runtime.forking import Fork as Fork
    from reprise.runtime.handle import RunHandle as RunHandle
    from reprise.runtime.intents import (
        Done as Done, Intent as Intent, NOT_DONE as NOT_DONE, UNKNOWN as UNKNOWN,
    )
    from reprise.runtime.middleware import Call as Call
    from reprise.runtime.migrating import (
        Heard as Heard, Migration as Migration, Onward as Onward, Past as Past,
    )
    from reprise.runtime.moments import RunState as RunState, StepState as StepState
    from reprise.runtime.outbox import Outbox as Outbox, outbox as outbox
    from reprise.runtime.patching import deprecate_patch as deprecate_patch, patched as patched
    from reprise.runtime.queries import query as query
    from reprise.runtime.replaying import Replay as Replay
    from reprise.runtime.spent import Spent as Spent
    from reprise.runtime.step import Step as Step, step as step
    from reprise.runtime.streams import Stream as Stream, stream as stream
    from reprise.runtime.undo import Undo as Undo, let_stay as let_stay, set_undo as set_undo
    from reprise.runtime.updates import update as update
    from reprise.runtime.workflow import Workflow as Workflow, workflow as workflow
    from reprise.stores import open_store as open_store
    from reprise.stores.archive.reading import verify_archive as verify_archive
    from reprise.stores.moving.backing_up import (
        back_up_store as back_up_store, restore_store as restore_store,
    )
    from reprise.stores.moving.cache import CachePruned as CachePruned, prune_cache as prune_cache
    from reprise.stores.moving.copying import copy_store as copy_store
    from reprise.stores.moving.exporting import export_runs as export_runs
    from reprise.stores.moving.importing import import_runs as import_runs
    from reprise.stores.moving.pruning import prune as prune
    from reprise.stores.packing.keys import KeyRing as KeyRing
    from reprise.stores.runs import RunRow as RunRow
    from reprise.stores.sqlite.lending import SQLiteConnection as SQLiteConnection
    from reprise.stores.tail import tail as tail
    from reprise.tools.calling import ToolCalled as ToolCalled, ToolResult as ToolResult
    from reprise.tools.context import ToolContext as ToolContext
    from reprise.tools.guards.network import NetworkAccess as NetworkAccess
    from reprise.tools.guards.paths import FileRoots as FileRoots
    from reprise.tools.library import create_builtin_tools_library as create_builtin_tools_library
    from reprise.tools.library.texts.summaries import (
        FunctionSummarizer as FunctionSummarizer, Summarizer as Summarizer,
    )
    from reprise.tools.library.texts.translation import (
        DeepL as DeepL, FunctionTranslator as FunctionTranslator, LibreTranslate as LibreTranslate,
        Translation as Translation, Translator as Translator,
    )
    from reprise.tools.library.web.searching import (
        BraveSearch as BraveSearch, SearXNG as SearXNG, TavilySearch as TavilySearch, WebSearch as WebSearch,
    )
    from reprise.tools.mcp.mount import MCPMount as MCPMount
    from reprise.tools.openapi.credentials import Credentials as Credentials
    from reprise.tools.openapi.options import OperationOptions as OperationOptions
    from reprise.tools.openapi.parser import OpenAPIParser as OpenAPIParser
    from reprise.tools.openapi.report import OpenAPIReport as OpenAPIReport
    from reprise.tools.plugins.manager import PluginManager as PluginManager
    from reprise.tools.plugins.registering import PluginRegistry as PluginRegistry
    from reprise.tools.policy import ToolPolicy as ToolPolicy, ToolRequest as ToolRequest
    from reprise.tools.registry import ToolRegistry as ToolRegistry
    from reprise.tools.scope import ToolScope as ToolScope
    from reprise.tools.tool import Example as Example, Tool as Tool, tool as tool
    from reprise.workflows.chain import AgentChain as AgentChain
    from reprise.workflows.chain_result import ChainResult as ChainResult, LinkResult as LinkResult
    from reprise.workflows.choreography import Choreography as Choreography, SagaStory as SagaStory
    from reprise.workflows.executing import StepEnded as StepEnded
    from reprise.workflows.files import load_plan as load_plan
    from reprise.workflows.orchestrator import WorkflowOrchestrator as WorkflowOrchestrator
    from reprise.workflows.outcome import (
        PlanMetrics as PlanMetrics, PlanResult as PlanResult, StepOutcome as StepOutcome,
    )
    from reprise.workflows.parallel import ParallelExecutor as ParallelExecutor, ParallelTask as ParallelTask
    from reprise.workflows.parallel_body import AggregationStrategy as AggregationStrategy
    from reprise.workflows.parallel_result import (
        ParallelMetrics as ParallelMetrics, ParallelResult as ParallelResult, TaskResult as TaskResult,
    )
    from reprise.workflows.plan import Plan as Plan
    from reprise.workflows.saga import Saga as Saga, SagaOrchestrator as SagaOrchestrator
    from reprise.workflows.saga_log import SagaEvent as SagaEvent
    from reprise.workflows.saga_result import SagaResult as SagaResult, Uncompensated as Uncompensated
    from reprise.workflows.saga_service import SagaService as SagaService
    from reprise.workflows.saga_steps import SagaStep as SagaStep
    from reprise.workflows.schedule import Schedule as Schedule, ScheduleState as ScheduleState
    from reprise.workflows.schedules import Schedules as Schedules
    from reprise.workflows.services import MessageBus as MessageBus
    from reprise.workflows.steps import PlanStep as PlanStep, WorkflowStep as WorkflowStep
    from reprise.workflows.tracker import WorkflowTracker as WorkflowTracker
    # isort: on
    # fmt: on

else:  # out of a type checker's sight: to it, any name would exist

    def __getattr__(name: str) -> object:
        """Import the module of a public name and keep the name, so that this runs once for each."""
        if (module := _EXPORTS.get(name)) is None:
            message = f"module {__name__!r} has no attribute {name!r}"
            raise AttributeError(message, name=name, obj=sys.modules[__name__])
        if module.startswith("reprise.workflows."):
            import_module("reprise.app.reprise")  # says how faces open an app; their floor lies below it
        value = globals()[name] = getattr(import_module(module), name)
        return value
