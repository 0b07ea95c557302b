"""The standing words of the study: each part's name, heading and place in the paper, and a text for
a reader who has not read it. Blanks in {braces} are filled where the part is measured; results are
not known here."""

from __future__ import annotations

from interp.ioi.part import Part

TASK = Part(
    "task",
    "The task",
    "section 2",
    "Two people are named, one of them does something, and the sentence stops before the other "
    "one's name: the indirect object (IO). The model has to say IO, not the subject (S), who is "
    "named twice (S1, S2). The logit difference is the logit of IO less that of S at the last "
    "token (END). Circuits are held against the same sentences with three unrelated names (ABC), "
    "in which there is nothing to find.",
)
ADVERSARIAL = Part(
    "adversarial",
    "Prompts made to mislead",
    "section 4.4, App. L, figure 21",
    "What tells the circuit who the subject is, is that the name is there twice. So a sentence in "
    "between that names IO once more should mislead it, and one that names S once more should not.",
)
SIGNALS = Part(
    "signals",
    "Which signals tell the movers where not to look",
    "App. A, figure 9",
    "S-inhibition heads could say which name not to copy (the token) or at which place it stands "
    "(the position). Their outputs at END are taken from prompts in which one of the two, or both, "
    "are random or the other way round. The fit is a sum of both signals.",
)
DIRECT = Part(
    "direct",
    "Who writes the answer",
    "section 3.1 (direct logit attribution)",
    "What each head's write at END adds to the logit difference by itself, the final LayerNorm as "
    "it was in the run. Blue pushes toward IO, red toward S.",
)
TO_LOGITS = Part(
    "to_logits",
    "Paths from every head to the logits",
    "figure 3b",
    "Each head's write at END is taken from the ABC prompt, every other head is held; the change "
    "of the logit difference, in per cent. A large drop means that the answer goes through this "
    "head.",
)
REDIRECTED = Part(
    "redirected",
    "Without S-inhibition the movers look at S",
    "figure 4c",
    "The S-inhibition heads' outputs are taken from the ABC prompts, but only the name movers' "
    "queries see that. Attention of the movers from END, before and after.",
)
LOOKING = Part(
    "looking",
    "Where the heads look",
    "section 3, table of figure 2",
    "Mean attention between the two positions that each class is known by.",
)
WRITING = Part(
    "writing",
    "The more a mover looks at a name, the more it writes it",
    "figure 3c",
    "Each point is one head on one prompt: its attention from END to a name, and the product of "
    "what it wrote with that name's unembedding. A head that copies gives a rising cloud.",
)
COPYING = Part(
    "copying",
    "Which heads copy names",
    "section 3.1",
    "A head's values and outputs by themselves: were it to look at a name (as that stands in the "
    "stream after the first layer) and at nothing else, would the name be among its five most "
    "promoted tokens? For negative heads the write is turned round.",
)
BACKUP = Part(
    "backup",
    "Heads that step in when the movers are gone",
    "section 3.4, figure 15",
    "Paths from every head to the logits once more, after the name movers' outputs at END were "
    "replaced by their means. Backup heads are those that gain.",
)
MLPS = Part(
    "mlps",
    "What the MLPs do",
    "App. J, figure 19",
    "Each MLP's output replaced by its mean, everywhere: what is left of the logit difference "
    "({whole:+.3f}); and the effect of its path to the logits at END.",
)
RANDOM_TOKENS = Part(
    "random_tokens",
    "The same heads on random tokens",
    "App. H and I",
    "{n} random tokens, then the same again: how much each head looks at the token before, at its "
    "own first time, or at what came after that. A head that has its class from the task should "
    "have it here as well; heads that only match names loosely do not.",
)
FAITHFULNESS = Part(
    "faithfulness",
    "Faithfulness: does the circuit alone do the task?",
    "section 4.1",
    "Every head that is not in the circuit, and every head of it at other positions than its own, "
    "is replaced by its mean over ABC prompts of the same template. MLPs always work.",
)
NULLS = Part(
    "nulls",
    "Would any circuit of this size do?",
    "Shi et al. 2024; App. of several successors",
    "{n} circuits of as many heads at the same positions, drawn at random: how many of them are "
    "less faithful.",
)
COMPLETENESS = Part(
    "completeness",
    "Completeness: is the circuit all there is?",
    "section 4.2, figures 7 and 22",
    "The same heads K are taken from the circuit and from the whole model. Where something outside "
    "of the circuit takes over, the model loses less than the circuit.",
)
MINIMALITY = Part(
    "minimality",
    "Minimality: is every head of it needed?",
    "section 4.3, figure 20",
    "For each head, the metric of the circuit without K, and without K and the head; {choice}. The "
    "least needed is {least}: {share:.1%} of F(M).",
)
LEGEND = (
    "In the picture each head stands above the position at which it acts, at the height of its "
    "layer; lines are what one hands on to another."
)
FOUND = Part(
    "found",
    "The circuit that was found",
    "section 3, as an algorithm",
    "From the logits backwards: every head is path-patched to the output; those that stand out "
    "are followed to what their queries, keys and values read, until nothing new stands out. An "
    "effect counts from {threshold:.0%} of the metric up, where chance gives one in a map with a "
    "probability of {level:.0%}. {kept} of {heads} heads were kept, on {n} prompts that are used "
    f"for nothing else. {LEGEND}",
)
GIVEN = Part("given", "The circuit that was given", "as --circuit says", LEGEND)

NO_MOVERS = "the circuit has no name movers"
NEITHER = "the circuit has no S-inhibition heads, or no name movers"
FIRST_LAYER = "these heads stand in the first layer: no head comes before them"


def no_head(role: str) -> str:
    """Why a part about the heads of a role is skipped."""
    return f"no head of the circuit is in the role {role!r}"
