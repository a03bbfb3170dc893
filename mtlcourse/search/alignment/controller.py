"""Who picks configurations: a controller that learns from rewards, one that draws by lot, one that has no choice.

Imports `files`. They know counts of options and nothing of what is chosen.
"""

import math
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ...files import derived_seed, is_number

Picks = list[int]  # an option's number for each choice


class Policy(nn.Module):
    """The probability of a row of picks, one choice after another, by an LSTM.

    `pi(a) = prod_i softmax(z_i)[a_i]`, where the logits z_i are a linear function, one for each choice, of the LSTM's
    state after it has read a_1, ..., a_(i - 1). So all rows have a positive probability.

    options: how many options each choice has.  width: of the LSTM's state, and of what stands for an option in it.
    The last layers begin at zero: before the first update all rows are equally probable.
    Source: Learning Architecture for Multiple Tasks in Transfer Learning, section 4.3.2, which names an LSTM and
    prints no sizes; its form follows H. Pham, M. Guan, B. Zoph, Q. Le, J. Dean, Efficient Neural Architecture Search
    via Parameter Sharing, ICML 2018.
    """

    def __init__(self, options: Sequence[int], width: int = 32):
        super().__init__()
        self.options = list(options)
        self.begin = nn.Parameter(torch.zeros(width))
        self.cell = nn.LSTMCell(width, width)
        self.embeddings = nn.ModuleList(nn.Embedding(count, width) for count in self.options[:-1])
        self.layers = nn.ModuleList(nn.Linear(width, count) for count in self.options)
        for layer in self.layers:
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, picks: Int[Tensor, "rows choices"]) -> tuple[Float[Tensor, " rows"], Float[Tensor, " rows"]]:
        """Of each row its log-probability, and the sum of the entropies of the choices on its way, both in nats.

        The mean of the latter over rows drawn from the policy is the policy's entropy.
        """
        return self._walk(len(picks), lambda i, logits: picks[:, i])[1:]

    def sample(self, generator: torch.Generator, rows: int = 1) -> tuple[
            Int[Tensor, "rows choices"], Float[Tensor, " rows"], Float[Tensor, " rows"]]:
        """Rows drawn from the policy, with what `forward` says of them."""
        return self._walk(rows, lambda i, logits: torch.multinomial(logits.detach().exp(), 1,
                                                                    generator=generator).squeeze(1))

    def _walk(self, rows: int, pick: Any) -> tuple[Tensor, Tensor, Tensor]:
        x, state = self.begin.expand(rows, -1), None
        picks, log_probability, entropy = [], torch.zeros(rows), torch.zeros(rows)
        for i, layer in enumerate(self.layers):
            state = self.cell(x, state)
            logits = torch.log_softmax(layer(state[0]), dim=1)
            picks.append(pick(i, logits))
            log_probability = log_probability + logits.gather(1, picks[-1][:, None]).squeeze(1)
            entropy = entropy - (logits.exp() * logits).sum(1)
            if i < len(self.embeddings):
                x = self.embeddings[i](picks[-1])
        return torch.stack(picks, dim=1), log_probability, entropy


def reinforce(log_probability: Float[Tensor, " rows"], rewards: Float[Tensor, " rows"],
              baseline: float) -> Float[Tensor, ""]:
    """A loss whose gradient is an unbiased estimate of that of minus the expected reward: `-mean((R - b) log pi(a))`.

    rewards: of rows drawn from the policy.  baseline: b, any number that does not depend on these rows; it changes
    the estimate's variance, not its mean.
    Source: R. Williams, Simple Statistical Gradient-Following Algorithms for Connectionist Reinforcement Learning,
    Machine Learning 1992; Learning Architecture for Multiple Tasks in Transfer Learning, section 4.3.2.
    """
    return -((rewards - baseline) * log_probability).mean()


@runtime_checkable
class Controller(Protocol):
    """What a search needs of who picks.

    pick: the next configuration.  learn: hear of its reward; does nothing where nothing is learned.
    entropy: of the policy, in nats, estimated from its last pick.  The state goes into the checkpoint.
    """

    entropy: float

    def pick(self) -> Picks: ...
    def learn(self, picks: Picks, reward: float) -> None: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Reinforce:
    """A policy that learns by REINFORCE with a moving-average baseline, one update a reward.

    `b <- decay b + (1 - decay) R` after each update; the first reward is the first baseline, so that it teaches nothing
    by itself.
    options: see `Policy`.  lr: of Adam.  decay: of the baseline.  bonus: weight of the policy's entropy, which is
    added to the reward's estimate; 0 as in the source.
    Source: Learning Architecture for Multiple Tasks in Transfer Learning, algorithm 2, which prints none of the
    numbers. A learning rate for thousands of updates (3.5e-4, as in the search that this controller is modelled on)
    would leave it where it began in the tens of updates that one an epoch makes.
    """

    def __init__(self, options: Sequence[int], seed: int = 0, lr: float | int = 0.01, decay: float | int = 0.8,
                 bonus: float | int = 0.0):
        for name, value, low, high in (("lr", lr, 0, math.inf), ("decay", decay, 0, 1), ("bonus", bonus, 0, math.inf)):
            if not is_number(value) or not low <= value < high:
                raise ValueError(f"{name}={value!r} of the controller is no number of at least {low}"
                                 + (f" and below {high}." if high == 1 else "."))
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(derived_seed(seed, "policy"))
            self.policy = Policy(options)
        self.optimizer = torch.optim.Adam(self.policy.parameters(), lr=lr, fused=True)
        self.decay, self.bonus, self.baseline = decay, bonus, math.nan
        self.entropy = sum(math.log(count) for count in options)
        self._generator = torch.Generator().manual_seed(derived_seed(seed, "controller"))
        self._drawn: tuple[Picks, list[Tensor]] = [], []

    def pick(self) -> Picks:
        drawn, *measured = self.policy.sample(self._generator)
        picks = drawn[0].tolist()
        self._drawn = picks, measured
        return picks

    def learn(self, picks: Picks, reward: float) -> None:
        if math.isnan(self.baseline):
            self.baseline = reward
        drawn, measured = self._drawn  # when it was drawn it was measured too, by the same weights
        log_probability, entropy = measured if drawn == picks else self.policy(torch.tensor([picks]))
        loss = reinforce(log_probability, torch.tensor([reward]), self.baseline) - self.bonus * entropy.mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self._drawn = [], []
        self.entropy = entropy.item()
        self.baseline = self.decay * self.baseline + (1 - self.decay) * reward

    def probability(self, picks: Picks) -> float:
        """How probable a configuration is."""
        with torch.no_grad():
            return self.policy(torch.tensor([picks]))[0].exp().item()

    def state_dict(self) -> dict[str, Any]:
        return {"policy": dict(self.policy.state_dict()), "optimizer": self.optimizer.state_dict(),
                "baseline": self.baseline, "entropy": self.entropy, "generator": self._generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.policy.load_state_dict(state["policy"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.baseline, self.entropy = state["baseline"], state["entropy"]
        self._generator.set_state(state["generator"])


class ByLot:
    """The control that a search must beat: each configuration equally probable, whatever the rewards."""

    def __init__(self, options: Sequence[int], seed: int = 0):
        self.options, self.entropy = list(options), sum(math.log(count) for count in options)
        self._generator = torch.Generator().manual_seed(derived_seed(seed, "controller"))

    def pick(self) -> Picks:
        return [int(torch.randint(count, (), generator=self._generator)) for count in self.options]

    def learn(self, picks: Picks, reward: float) -> None:
        """Nothing is learned."""

    def state_dict(self) -> dict[str, Any]:
        return {"generator": self._generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._generator.set_state(state["generator"])


class Fixed:
    """One configuration, no search."""

    def __init__(self, picks: Picks):
        self.picks, self.entropy = list(picks), 0.0

    def pick(self) -> Picks:
        return self.picks

    def learn(self, picks: Picks, reward: float) -> None:
        """Nothing is learned."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """There is nothing to go on with."""
