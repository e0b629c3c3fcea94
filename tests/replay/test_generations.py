"""Each rule of the border between generations is there for a reason: taken out, a pattern goes wrong.

That all patterns hold with the rules in place is shown by ``test_prefixes``.
"""

from __future__ import annotations

import asyncio

import pytest
from tests.replay import generations, harness
from tests.replay.harness import trial

import reprise.runtime.execution
import reprise.runtime.generation
import reprise.runtime.post
from reprise import RepriseError
from reprise.runtime.execution import Execution
from reprise.runtime.mailbox import Mailboxes

pytestmark = pytest.mark.replay
assert generations.SENT, "registers the patterns"

SEEDS = 12


def signals_that_nobody_took_pass_on(patch):
    patch.setattr(Mailboxes, "left", lambda self: [])


def what_was_recorded_is_delivered_first(patch):
    def at_end(self):
        wish, self.wish = self.wish, None
        try:
            return original(self)
        finally:
            self.wish = wish

    original = Execution._at_end
    patch.setattr(Execution, "_at_end", at_end)


def a_request_that_came_too_late_passes_on(patch):
    def deliver(self, record):
        original(self, record)
        self.unheard = None

    original = Execution.deliver
    patch.setattr(Execution, "deliver", deliver)


def consumed_mail_is_known_again(patch):
    patch.setattr(reprise.runtime.generation, "_remembered", lambda execution: [])


def keys_are_of_one_generation(patch):
    patch.setattr(reprise.runtime.execution, "scope_of", lambda run, generation: run)


def mail_of_an_earlier_child_is_not_that_of_the_next(patch):
    def child_finished(execution, mail):
        if mail.key in execution.children:
            execution.children[mail.key] = mail.run
        original(execution, mail)

    original = reprise.runtime.post._child_finished
    patch.setattr(reprise.runtime.post, "_child_finished", child_finished)


RULES = {
    signals_that_nobody_took_pass_on: "signals_over_the_border",
    what_was_recorded_is_delivered_first: "signals_over_the_border",
    a_request_that_came_too_late_passes_on: "cancelled_in_any_generation",
    consumed_mail_is_known_again: "signals_over_the_border",
    keys_are_of_one_generation: "chance_and_keys_differ",
    mail_of_an_earlier_child_is_not_that_of_the_next: "children_in_generations",
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
async def test_without_the_rule_it_goes_wrong(rule, monkeypatch):
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    monkeypatch.setattr(harness, "PATIENCE", 1.0)
    rule(monkeypatch)
    for seed in range(SEEDS):
        try:
            await trial(RULES[rule], 1000 + seed)
        except (AssertionError, RepriseError, TimeoutError):
            return
    pytest.fail("it can be taken out and nothing shows it")
