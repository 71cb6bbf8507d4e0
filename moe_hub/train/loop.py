"""The training loop, the only one.

Each step: obey what people ask, forward and backward over `grad_accumulation` batches, clip, update, adapt
(controllers and ghosts), then log, evaluate and save where due. The batch of a step is a pure function of the seed
and the step, so a checkpoint's step is all that resuming needs to know of the data. Several processes go through the
same steps, each with its rows of every batch; what they decide by is the same for all (see `parallel/`).
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from moe_hub.checkpoint import TrainerState, remove_old, save_checkpoint
from moe_hub.config import Config
from moe_hub.errors import ConfigError
from moe_hub.models.language_model import LanguageModel
from moe_hub.models.shared_tokens import shared
from moe_hub.ranks import ALONE, Ranks
from moe_hub.runs.store import RunDirectory
from moe_hub.train.adaptation import StepFacts, after_step, forget
from moe_hub.train.cognitive import CognitiveSchedule
from moe_hub.train.controller import Controller
from moe_hub.train.device import choose_precision
from moe_hub.train.evaluation import evaluate_exact_match, evaluate_loss
from moe_hub.train.failure import NO_ROOM, Failure, NonFiniteLoss, dump_step, names_of, not_finite, room_problem
from moe_hub.train.objective import autocast, loss_terms
from moe_hub.train.optimization import gradient_norms, named_groups, rate_factor, set_rates
from moe_hub.train.parallel.group import own_sample, part_of, sharing_of
from moe_hub.train.parallel.strategy import Spread, spread, whole
from moe_hub.train.record import RunRecord, loggable

if TYPE_CHECKING:
    from moe_hub.data.batch import Batch
    from moe_hub.data.prepare import TrainingData

PAUSE_POLL_S = 0.1
ROOM = "Free some space, then resume"


class Trainer:
    """Trains `model` in place; `state` says how far it is. One object, one attempt of one run."""

    def __init__(
        self,
        config: Config,
        model: LanguageModel,
        optimizer: torch.optim.Optimizer,
        data: TrainingData,
        record: RunRecord,
        controller: Controller,
        state: TrainerState,
        ranks: Ranks = ALONE,
        spread_model: Spread | None = None,
    ) -> None:
        self.config, self.model, self.optimizer, self.data = config, model, optimizer, data
        self.record, self.controller, self.state = record, controller, state
        self.ranks, self.spread = ranks, spread_model or spread(model, config, ranks)
        self.checkpoints = record.run_dir / "checkpoints"
        self.device = model.device
        self.precision = choose_precision(config.train, self.device)
        self.total_steps = total_steps(config, data.batches_per_epoch)
        self.groups = named_groups(model)
        cognitive = config.train.lambda_cognitive
        self.schedule = CognitiveSchedule(cognitive.scheduling, self.total_steps) if model.config.cognitive else None
        if self.schedule is not None and "cognitive" in state.schedules:
            self.schedule.load_state_dict(state.schedules["cognitive"])
        self.saved_step = state.step if state.step else -1
        self._last_task = 0.0
        self._cpu_s = 0.0  # of this process, since those of all were last added
        self._evaluated = (-1, math.inf)  # step and held-out loss of the last evaluation on `eval_batches` batches
        self._first_step = state.step
        # Logged with the first new step: a row for the old step would supersede what the earlier attempt logged there.
        self._events: dict[str, Any] = {"event/resume": 1} if state.step else {}

    def run(self) -> str:
        """Trains until done or asked to stop; returns the final state, `finished` or `stopped`."""
        self.record.update(
            state="running", reason="", step=self.state.step, max_steps=self.total_steps, device=str(self.device)
        )
        while self.state.step < self.total_steps:
            self._obey()
            if self.controller.stop_reason:
                self._save(reason="stopping")
                return "stopped"
            self._step()
        self._finish()
        return "finished"

    def _step(self) -> None:
        began, cpu_began = time.perf_counter(), time.process_time()
        train, state = self.config.train, self.state
        before = dict(state.window), state.tokens
        done = state.step + 1
        logged = done % train.log_every == 0 or done == self.total_steps
        factor = rate_factor(train, state.step, self.total_steps)
        rates = set_rates(self.optimizer, factor)
        phases = self._move_phases()
        measures = self._forward_backward(measure=logged)
        norms = gradient_norms(self.groups) if logged else {}
        gradients = [each.grad for each in self.model.parameters() if each.grad is not None]
        found = torch.nn.utils.get_total_norm(gradients)
        norm = float(whole(found))
        task = state.window["loss/task"] / state.window["targets"] if state.window["targets"] else 0.0
        if not math.isfinite(norm):
            self._refuse_step(done, {"learning_rates": rates, "gradient_norms": norms, "gradient_norm": norm}, before)
            return
        torch.nn.utils.clip_grads_with_norm_(self.model.parameters(), train.grad_clip or math.inf, found)
        self.optimizer.step()
        facts = StepFacts(done, self._last_task, self.data.unigram_entropy, factor, self.total_steps)
        events = {**self._events, **after_step(self.model, self.optimizer, self.config, facts)}
        self._events = {}
        state.step = done
        state.active_s += time.perf_counter() - began
        self._cpu_s += time.process_time() - cpu_began
        if logged:
            self._log(task, rates, norms, norm, {**measures, **phases, **events})
        elif any(name.startswith("event/") for name in events):
            self._write(loggable(events))
        self._when_due()

    def _forward_backward(self, *, measure: bool) -> dict[str, Any]:
        """Gradients of one step; adds to the window and returns the measures of the last batch."""
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        batches = [batch.to(self.device) for batch in self._batches()]
        own_targets = [int((batch.labels_BT[:, 1:] != -100).sum()) for batch in batches]
        targets = [int(count) for count in self.ranks.sum(own_targets)]
        measures: dict[str, Any] = {}
        self._last_task = 0.0
        for number, (batch, count) in enumerate(zip(batches, targets, strict=True)):
            share = count / max(1, sum(targets))
            last = number == len(batches) - 1
            with self.spread.synchronized(last), shared(sharing_of(batch)):
                with autocast(self.device, self.precision):
                    total, terms, measures = loss_terms(
                        self.spread.forward, batch, self.config.train, measure=measure and last,
                        sample=own_sample(batch),
                    )  # fmt: skip
                torch.autograd.backward(total * (share * self.spread.scale))
            self._last_task += float(terms["task"].detach()) * share
            self._add(total, terms, count)
            self.state.tokens += batch.tokens
        return measures

    def _batches(self) -> list[Batch]:
        accumulation = self.config.train.grad_accumulation
        level = self.schedule.unlocked_level(self.state.step, self.config.data.levels) if self.schedule else None
        first = self.state.step * accumulation
        part = part_of(self.ranks)
        return [self.data.train_batch(first + number, level, part) for number in range(accumulation)]

    def _add(self, total: torch.Tensor, terms: dict[str, torch.Tensor], targets: int) -> None:
        window = self.state.window
        values = {"loss/total": total, **{f"loss/{name}": term for name, term in terms.items()}}
        for name, value in values.items():
            window[name] = window.get(name, 0.0) + float(value.detach()) * targets
        window["targets"] = window.get("targets", 0.0) + targets

    def _move_phases(self) -> dict[str, Any]:
        if self.schedule is None:
            return {}
        weights = self.schedule.weights(self.state.step)
        self.model.set_phase_weights(weights)
        return {"lambda/phase_weight": weights, "lambda/phase_offset_rad": self.model.phase_angle_S}

    def _add_cpu_seconds(self) -> None:
        """Those of all processes since the last call."""
        self.state.cpu_s += self.ranks.sum([self._cpu_s])[0]
        self._cpu_s = 0.0

    def _log(self, task: float, rates: dict[str, float], norms: dict[str, float], norm: float, more: Any) -> None:
        state = self.state
        self._add_cpu_seconds()
        targets = max(1.0, state.window.pop("targets"))
        losses = {name: total / targets for name, total in state.window.items()}
        seconds = max(1e-9, state.active_s - state.row_active_s)
        speed = (state.tokens - state.row_tokens) / seconds
        step_s = seconds / (state.step - state.row_step)
        state.window = {}
        state.row_step, state.row_tokens, state.row_active_s = state.step, state.tokens, state.active_s
        self._write({
            "train/loss": task,
            **losses,
            **{f"optim/lr/{name}": rate for name, rate in rates.items()},
            **{f"optim/grad_norm/{name}": value for name, value in norms.items()},
            "optim/grad_norm_total": norm,
            "time/tokens_per_s": speed,
            "time/step_s": step_s,
            "time/active_s": state.active_s,
            "time/cpu_s": state.cpu_s,
            **self.record.system(),
            **more,
        })  # fmt: skip
        self.record.progress(state.step, f"loss {task:.4f}  {speed:,.0f} tokens/s")

    def _write(self, values: dict[str, Any]) -> None:
        self.record.row(self.state.step, self.state.tokens, loggable(values))

    def _note(self, events: dict[str, Any]) -> None:
        """Logs events at the step that is done; before this attempt's first step they wait for it."""
        if self.state.step == self._first_step:
            self._events.update(events)
        else:
            self._write(events)

    def _when_due(self) -> None:
        train, step = self.config.train, self.state.step
        last = step == self.total_steps
        save = step % train.checkpoint_every == 0
        if (step % train.eval_every == 0 or save) and not last:
            self.evaluate(train.eval_batches)
        if save and not last:
            self._save()
        self.record.update(step=step)

    def _finish(self) -> None:
        if self.saved_step == self.state.step:
            return  # killed between the last checkpoint and the last word: nothing is left to do
        self.record.update(reason="evaluating", force=True)
        self.evaluate(self.config.train.eval_batches, quiet=True)  # comparable with the checkpoints before
        self.evaluate(None)
        self._save()

    def evaluate(self, limit: int | None, *, quiet: bool = False) -> dict[str, float]:
        """Held-out metrics, on `limit` batches or on all; logged and shown to the adaptive schedule unless `quiet`."""
        self.model.eval()
        try:
            with autocast(self.device, self.precision):
                batches, tasks, beat = self.data.eval_batches(limit), self.data.task_batches(limit), self.record.update
                found = evaluate_loss(self.model, batches, self.ranks, beat)
                found |= evaluate_exact_match(self.model, tasks, self.ranks, beat)
        finally:
            self.spread.rest()
            self.model.train()
        if limit is not None and "val/loss" in found:
            self._evaluated = (self.state.step, found["val/loss"])
        if quiet:
            return found
        if self.schedule is not None:
            self.schedule.observe(self.state.step, _by_phase(found, "exact_match"), _by_phase(found, "loss"))
        self.state.metrics = {**self.state.metrics, **found}
        self._write(found)
        shown = ("val/loss", "val/exact_match")
        self.record.say(f"step {self.state.step}: " + "  ".join(f"{n} {found[n]:.4f}" for n in shown if n in found))
        return found

    def _note_best(self) -> None:
        """Marks this step as the best so far if its loss, on the same batches as the others', is the least.

        Only a step that is saved can be the best one that is kept.
        """
        step, loss = self._evaluated
        if step == self.state.step and (self.state.best_loss is None or loss < self.state.best_loss):
            self.state.best_loss, self.state.best_step = loss, step

    def _obey(self) -> None:
        self.record.require_folder()
        trouble = self.record.trouble()
        if trouble:  # before the poll, which tells it to all processes
            self.controller.paused = True
        self.controller.poll()
        self._apply_settings()
        if self.controller.take_save():
            self._save()
        if self.controller.paused and not self.controller.stop_reason:
            self._pause("paused on request", Failure("disk_full", trouble, ROOM) if trouble else None)

    def _apply_settings(self) -> None:
        for name, value in self.controller.take_settings().items():
            if name != "ghost_threshold":
                continue
            try:
                self.model.set_ghost_threshold(value)
                self.record.say(f"step {self.state.step}: ghost threshold set to {value:g}")
            except ConfigError as error:
                self.record.say(f"step {self.state.step}: {error}")

    def _pause(self, reason: str, failure: Failure | None = None) -> None:
        """Holds between two steps until resumed or stopped; a save that is asked for meanwhile is done.

        A `failure` that is the reason stands in the status until then.
        """
        self._note({"event/pause": 1})
        reason = failure.line if failure is not None else reason
        found = failure.values(RunDirectory(self.record.run_dir).log_tail()) if failure is not None else {}
        self.record.update(state="paused", reason=reason, failure=found)
        self.record.say(f"step {self.state.step}: {reason}")
        while self.controller.paused and not self.controller.stop_reason:
            time.sleep(PAUSE_POLL_S)
            self.controller.poll()
            self._apply_settings()
            if self.controller.take_save():
                self._save()
            self.record.update()
        self._note({"event/resume": 1})
        self.record.update(state="running", reason="", failure={})

    def _save(self, reason: str = "") -> Path | None:
        """Saves a checkpoint. Where the disk is full the run pauses (unless it is stopping) and keeps the last one."""
        if reason:
            self.record.update(state=reason)
        if self.saved_step == self.state.step:
            return None
        if self.schedule is not None:
            self.state.schedules["cognitive"] = self.schedule.state_dict()
        self._note_best()
        self._add_cpu_seconds()
        try:
            folder = save_checkpoint(
                self.checkpoints, self.model, self.optimizer, self.data.tokenizer, self.config, self.state, self.ranks
            )
        except OSError as error:
            self._no_room(error)
            return None
        self.saved_step = self.state.step
        if self.ranks.main:
            remove_old(self.checkpoints, self.config.train.keep_checkpoints, self.state.best_step)
        self._write({"event/checkpoint": 1})
        return folder

    def _no_room(self, error: OSError) -> None:
        self.record.require_folder()
        problem = f"the checkpoint of step {self.state.step} cannot be written: {room_problem(error)}"
        self.record.say(problem)
        if self.controller.stop_reason:
            self.controller.stop_reason += f"; {problem}; the last checkpoint is step {max(0, self.saved_step)}"
            return
        self.controller.paused = True
        self._pause("", Failure("disk_full" if error.errno in NO_ROOM else "error", problem, ROOM))
        if not self.controller.stop_reason:
            self._save()  # what there was no room for

    def _refuse_step(self, step: int, known: dict[str, Any], before: tuple[dict[str, float], int]) -> None:
        """Keeps the weights and counters of before the bad step, and what is known of it; raises `NonFiniteLoss`.

        With `train.on_nonfinite = pause` it holds instead, and leaves the step out when the run is resumed.
        """
        state, bad = self.state, not_finite(self.model)
        terms = {name: total - before[0].get(name, 0.0) for name, total in state.window.items()}
        targets = max(1.0, terms.pop("targets", 1.0))
        losses = {name: value / targets for name, value in terms.items()}
        state.window, state.tokens = before
        forget(self.model)
        self._save()
        report = {"step": step, "task_loss": self._last_task, "losses": losses, **known, "not_finite": bad,
                  "first_batch": state.step * self.config.train.grad_accumulation, "seed": self.config.seed,
                  "weights_before": f"step_{state.step:08d}", "precision": str(self.precision)}  # fmt: skip
        kept = dump_step(self.record.run_dir, step, report, self._batches()) if self.ranks.main else None
        norm = known["gradient_norm"]
        values = {"train/loss": self._last_task, "optim/grad_norm_total": norm, "event/nonfinite": 1}
        self.record.row(step, state.tokens, loggable({**self._events, **values}))
        self._events = {}
        problem = (
            f"non-finite loss or gradient at step {step} (task loss {self._last_task:g}, gradient norm {norm:g}"
            + (f", in {names_of(bad)}" if bad else "")
            + f"); the step was not applied and the weights before it are saved as step {state.step}"
            + (f"; its batches and numbers are in {kept.relative_to(self.record.run_dir)}" if kept else "")
        )
        if self.config.train.on_nonfinite == "stop":
            raise NonFiniteLoss(problem)
        self.record.update(step=state.step)
        self.controller.paused = True
        self._pause("", Failure("non_finite", problem, "Resume leaves this step out; or stop, and fork from there"))
        if not self.controller.stop_reason:
            state.step = step
            self._when_due()


def total_steps(config: Config, batches_per_epoch: int) -> int:
    """`max_steps`, or fewer where `epochs` ends first."""
    train = config.train
    if train.epochs is None:
        return train.max_steps
    batches = min(batches_per_epoch, train.max_batches_per_epoch or batches_per_epoch)
    return max(1, min(train.max_steps, math.ceil(train.epochs * batches / train.grad_accumulation)))


def _by_phase(values: dict[str, float], kind: str) -> dict[str, float]:
    prefix = f"lambda/{kind}/"
    return {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}
