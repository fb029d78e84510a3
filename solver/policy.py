"""What the ladder runs when, and for how long: every number that a reader may want to change, in one table."""

from __future__ import annotations

__all__ = [
    "ALPHA_ROW_STEPS",
    "ALPHA_SHARE",
    "ALPHA_STEPS",
    "ATTACK_CLAUSES",
    "ATTACK_LEAK",
    "ATTACK_RESTARTS",
    "ATTACK_SHARE",
    "ATTACK_STEPS",
    "BAB_BATCH",
    "BAB_CANDIDATES",
    "BAB_CLIPS",
    "BAB_COEFFICIENTS",
    "BAB_FIRST_SECONDS",
    "BAB_FIRST_SHARE",
    "BAB_LP_AFTER",
    "BAB_LP_PAUSE",
    "BAB_MEMORY",
    "BAB_NEAR_SHARE",
    "BAB_PRODUCTS",
    "BAB_ROOT_STEPS",
    "BAB_ROUNDS",
    "BAB_SHALLOW_SHARE",
    "BAB_SHALLOW_STEPS",
    "BAB_SHARE",
    "BAB_SLACK",
    "BAB_STEPS",
    "BAB_TURN",
    "BATCH_ENTRIES",
    "BOX_BATCH",
    "BOX_CANDIDATES",
    "BOX_POOL",
    "BOX_SECONDS",
    "BOX_SHARE",
    "BOX_SLOPE_RATE",
    "BOX_STEPS",
    "BOX_TRY_ONE_IN",
    "BOX_WEIGHT_RATE",
    "CASES_PER_BATCH",
    "CLOSING_ATTACKS",
    "CLOSING_BOUNDS",
    "CLOSING_FOUND",
    "CLOSING_LATE",
    "CLOSING_SECONDS",
    "CLOSING_SHARE",
    "CLOSING_TOLERANCE",
    "CUT_PATIENCE",
    "CUT_ROUNDS",
    "CUT_SHARE",
    "DEEP_BATCH",
    "DEEP_COLUMNS",
    "DEEP_ENTRIES",
    "DEEP_NEURON_STEPS",
    "DEEP_SHARE",
    "DEEP_STEPS",
    "DEEP_TURN",
    "FIRST_SOLVER_SHARE",
    "FIRST_TANGENTS",
    "FIRST_TANGENT_ROWS",
    "HELP_AFTER",
    "HELP_CELLS",
    "HELP_DELAY",
    "HELP_LEAST",
    "HELP_PROCESSES",
    "HELP_SECONDS",
    "HELP_SHARE",
    "LINEAR_SHARE",
    "LP_SECONDS",
    "MILP_FIRST_RELUS",
    "MILP_FIRST_SHARE",
    "MILP_RELUS",
    "MILP_UNSTABLE",
    "MIP_SECONDS",
    "PHASES_PER_INPUT",
    "POLISH_CELLS",
    "POLISH_DROPS",
    "POLISH_DUAL_STEPS",
    "POLISH_FINEST",
    "POLISH_FLIPS",
    "POLISH_HALVINGS",
    "POLISH_JUMPS",
    "POLISH_JUMP_GAIN",
    "POLISH_LP_SECONDS",
    "POLISH_ROUNDS",
    "POLISH_ROWS",
    "POLISH_SLACK",
    "POLISH_STARTS",
    "POLISH_WAY",
    "POPULATION_BEST",
    "POPULATION_CHILDREN",
    "POPULATION_FIRST",
    "POPULATION_GENERATIONS",
    "POPULATION_SHARE",
    "PROOF_SHARE",
    "REPORT_SECONDS",
    "SLOPE_COLUMNS",
    "SPLIT_INPUTS",
    "STORED_SLOPES",
    "TIGHTEN_MIP_SHARE",
    "TIGHTEN_SHARE",
    "TORCH_THREADS",
    "UNIVERSAL_RELUS",
    "UNIVERSAL_STARTS",
    "UNIVERSAL_STEPS",
]

#: Regions that are bounded together; VNNLIB files may hold thousands.
CASES_PER_BATCH = 64

#: Entries of all values of the network, over all regions that are bounded together (about 96 bytes each).
BATCH_ENTRIES = 2**24

#: Share of a query's remaining time that the backward bounds of one batch of regions may take; neurons that are left
#: then keep their interval bounds.
LINEAR_SHARE = 0.5

#: Random starts of the short attack for each open clause, beside the center and the bounds' minimisers.
ATTACK_RESTARTS = 4

#: Steps of the short attack.
ATTACK_STEPS = 25

#: Clauses that the short attack looks at together, as each starts from the minimisers of all; and the share of the time
#: that is left after which it takes no further ones of a region.
ATTACK_CLAUSES = 32
ATTACK_SHARE = 0.05

#: Slope that gradients take for inactive ReLUs where they would be zero without. 0.01 to 0.3 all find the violations of
#: the two collins_rul_cnn queries that need it, within 4 steps; 0 and 1 never do.
ATTACK_LEAK = 0.1

#: Adam steps on the slopes of specification rows, and of neurons, over the whole region. On mnist_fc 100 steps for the
#: rows gain less than 1 % over 20.
ALPHA_ROW_STEPS = 20
ALPHA_STEPS = 20

#: Share of a query's remaining time that the slopes of neurons may take.
ALPHA_SHARE = 0.2

#: Networks with at most this many inputs are decided by input splits, larger ones by ReLU splits and the MILP: each
#: input split halves one input, so the boxes needed grow exponentially with the inputs that matter.
SPLIT_INPUTS = 16

#: Open ReLUs for each input up to which such a network has a first look by ReLU splits. A random 9-5-2 network on the
#: whole unit box takes 4 cells, and more boxes than fit into 30 s.
PHASES_PER_INPUT = 2

#: A network with that few inputs and at most this many ReLUs is left to ReLU splits and the MILP once input splits have
#: had their share of the time: sat_relu's formulas v9 and v14 take 5 and 41 cells there, and more boxes than anyone can
#: wait for.
MILP_RELUS = 128
BOX_SHARE = 0.1

#: Networks with more inputs and at most this many ReLUs have the MILP for this share of the time after a first look by
#: ReLU splits (`BAB_FIRST_SHARE`): formulas with up to 300 ReLUs take it some seconds, and ReLU splits forever.
MILP_FIRST_RELUS = 400
MILP_FIRST_SHARE = 0.3

#: Share of a clause's time that Gurobi gets where both solvers can serve; HiGHS has the rest. On ACAS Xu Gurobi takes a
#: third to all of HiGHS's time, on formulas of sat_relu more than twenty times as much.
FIRST_SOLVER_SHARE = 0.2

#: With several hidden layers and more open ReLUs than this, neither tightening by LPs nor the MILP is tried. On oval21
#: (447 to 1,157 open) 1,000 LPs closed 10 neurons, and HiGHS did not finish its root node; the search ends in seconds.
MILP_UNSTABLE = 400

#: Boxes that input splits bound together, and the seconds that this may take where a box is dear.
BOX_BATCH = 512
BOX_SECONDS = 0.5

#: Adam steps on the weights of a conjunction's rows, and on the slopes under them, where a box is still open; and the
#: lengths of the first ones, of slopes and of the weights' logarithms. Six steps have to reach far: with half the
#: lengths, that also shrink to a fifth, they close a fifth of the boxes.
BOX_STEPS = 6
BOX_SLOPE_RATE = 0.5
BOX_WEIGHT_RATE = 1.5

#: Inputs that are tried on a box to learn which to cut, and on one box in how many.
BOX_CANDIDATES = 8
BOX_TRY_ONE_IN = 10

#: Input splits also look for violations with a population of points: new points for each box that is bounded, points at
#: random in the first generation, how many of the best stay, children of each, and generations until the next start.
POPULATION_SHARE = 16
POPULATION_FIRST = 4096
POPULATION_BEST = 64
POPULATION_CHILDREN = 16
POPULATION_GENERATIONS = 15

#: Above this many open boxes the search goes depth first, so memory stays bounded.
BOX_POOL = 200_000

#: Share of a query's remaining time that ReLU splits may take before tightening and the MILP.
BAB_SHARE = 0.4

#: The same for networks with one hidden layer, where little is left to the others.
BAB_SHALLOW_SHARE = 0.8

#: With more than two hidden layers, the share that they may take before tightening, at least and at most so many
#: seconds; `BAB_SHARE` is what they get after it. On mnist_fc 256x2 prop_3 they close in 6 CPU seconds what bounding
#: neurons anew does not close in 12, on WK17a just below a minimum distortion in 2 what that does not close in 15, on
#: oval21 img4631 in 10 what that hardly closes; on mnist_fc 256x4 they close nothing in 15 that it closes in 1.
BAB_FIRST_SHARE = 0.05
BAB_FIRST_SECONDS = (2.0, 15.0)

#: Adam steps on the multipliers of each new cell; networks with one hidden layer do without, as nearly all that steps
#: could gain there is gained by the next split, at a fraction of the cost. With 8 steps several targets of mnist_fc
#: 256x4 do not finish, with 24 the same ones finish in fewer cells and as much time.
BAB_STEPS = 16

#: The same for networks with one hidden layer, where pre-activation bounds are exact and clipping does the most.
BAB_SHALLOW_STEPS = 2

#: Seconds of the first turn that each clause has in a ReLU-split search; every further turn is twice as long.
BAB_TURN = 1.0

#: Adam steps on the slopes at the root of a ReLU-split search.
BAB_ROOT_STEPS = 20

#: Cells that are split together, where the network is small.
BAB_BATCH = 128

#: Products that one backward pass over a batch of cells may take; large networks get smaller batches.
BAB_PRODUCTS = 2**25

#: Coefficients of the reduced network (4 bytes each): ReLU splits are not tried where there would be more.
BAB_COEFFICIENTS = 2**27

#: How often a new cell's pre-activation bounds are clipped by its own linear bound; each time pays for the next.
BAB_CLIPS = 2

#: Rounds in which the rows of a conjunction contract a cell's inputs, before it is split.
BAB_ROUNDS = 16

#: Columns that strong branching tries in each cell.
BAB_CANDIDATES = 16

#: Bytes that open cells may fill before the search goes depth first.
BAB_MEMORY = 2**30

#: ReLU splits that bound all neurons anew on every cell: the share of a query's remaining time, the Adam steps on the
#: rows of each cell, the cells that are split together, and the numbers that a batch may note about what loosened its
#: bounds (4 bytes each; large networks get smaller batches).
DEEP_SHARE = 0.8
DEEP_STEPS = 8
DEEP_BATCH = 8
DEEP_ENTRIES = 2**25

#: Cells that are bounded below one root before those that are open become roots, with that many steps on the slopes of
#: their neurons.
DEEP_TURN = 16
DEEP_NEURON_STEPS = 5

#: They are tried where at most this many ReLUs are unstable at the root: each bound has slopes of its own, so memory
#: grows with the square (8 bytes).
DEEP_COLUMNS = 4096

#: Slopes that were optimised for neurons are kept for such cells where at most this many ReLUs are open before; they
#: may be fewer afterwards. While they are found they take 8 bytes for each pair of open ReLUs.
SLOPE_COLUMNS = 8192

#: Threads that torch uses for bounds and attacks. Their matrices are small by design (`bounds.backward` works in chunks
#: that fit the cache), so a second thread gains little when idle and waits for its turn on a busy machine.
TORCH_THREADS = 1

#: Share of a query's remaining time that tightening may take before the MILP.
TIGHTEN_SHARE = 0.3

#: Of that, the share for neurons' MIPs. None by default: on ACAS Xu they cost more than they saved on three of four
#: queries, and without them every pre-activation bound is rigorous.
TIGHTEN_MIP_SHARE = 0.0

#: Seconds for one neuron's LP, and for one neuron's MIP.
LP_SECONDS = 2.0
MIP_SECONDS = 2.0

#: Share of a clause's time that the MILP engine spends on its LP relaxation with ideal cuts, before it branches; and
#: the most rounds of cuts. The rounds end earlier where this many more, each as good as the better of the last two,
#: would leave the sign open.
CUT_SHARE = 0.5
CUT_ROUNDS = 40
CUT_PATIENCE = 10

#: Share of a query's remaining time that proving again may take, where a certificate is asked for and what was proven
#: left no evidence that a checker could check; the rest is for the check.
PROOF_SHARE = 0.5

#: Seconds between two progress reports of one search.
REPORT_SECONDS = 0.2

#: Tangents of each square at the start of outer approximation, evenly over its column's range, and of all squares
#: together. On ACAS Xu (5 inputs) 17 take 25 CPU seconds where 2 take 46 and 65, which leave hardly a second round, 36.
FIRST_TANGENTS = 17
FIRST_TANGENT_ROWS = 1024

#: Unstable ReLUs of all inputs together beyond which a universal perturbation is not searched.
UNIVERSAL_RELUS = 1500

#: Random starts and steps of the attack that looks for a universal perturbation before the MILP.
UNIVERSAL_STARTS = 16
UNIVERSAL_STEPS = 50

#: A descent through activation patterns: jumps at most, which end with one that gains less than this share; and how far
#: towards a jump's end the network is looked at.
POLISH_JUMPS = 20
POLISH_JUMP_GAIN = 0.01
POLISH_WAY = tuple(i / 16 for i in range(1, 17))

#: Cells at most after that; neurons that hold a cell's best point back and are crossed one by one; rounds of halfspaces
#: for one program, and how many each adds.
POLISH_CELLS = 40
POLISH_FLIPS = 4
POLISH_ROUNDS = 20
POLISH_ROWS = 20

#: Seconds for one program's LP; steps for the dual of a nearest point in the Euclidean norm, and halvings where a
#: margin is minimised over such a ball.
POLISH_LP_SECONDS = 2.0
POLISH_DUAL_STEPS = 300
POLISH_HALVINGS = 40

#: What float32 rounding takes away is given back on the way to a point that violates by this share of the outputs, and
#: on the way to the point that the descent came from; the first steps are these powers of two of the way.
POLISH_SLACK = 1e-4
POLISH_FINEST = -14

#: Entries that a sparse violation is tried without, one by one, before it is left as it is.
POLISH_DROPS = 8

#: Where the least margin is looked for: so many clauses, those with the weakest bounds.
POLISH_STARTS = 3

#: How near the ends of an interval come, as a share of the upper one where that is above 1 in size.
CLOSING_TOLERANCE = 1e-5

#: Radii that are attacked, and thresholds that bounds alone are tried on, before the ladder is asked.
CLOSING_ATTACKS = 8
CLOSING_BOUNDS = 6

#: Seconds for the first verdict about a threshold: at least so many, and this share of the time that is left. Where
#: time ran out on more than so many thresholds, they are tried again with twice the seconds.
CLOSING_SECONDS = 2.0
CLOSING_SHARE = 0.1
CLOSING_LATE = 1

#: Inputs that thresholds just below the best one have found, before thresholds keep a growing distance from it.
CLOSING_FOUND = 2

#: ReLU splits hand some of the weakest cells to an LP, once the search has lasted so many seconds (of a dense network
#: the first LP takes a tenth of one); where it closes none, they go on for this many times as long as that took until
#: the next. On WK17a near minimum distortions an LP takes 2 ms, and after 0.25 s in place of 2 s it saves two thirds.
BAB_LP_AFTER = 0.25
BAB_LP_PAUSE = 10.0

#: Slopes of neurons' bounds that a certificate may hold: neurons times columns.
STORED_SLOPES = 2**20

#: The share of ReLU splits where the margin is near zero, as below a minimum distortion: on WK17a they close in 1 to 10
#: CPU seconds what bounding neurons anew brings from -0.08 to -0.004 in 12.
BAB_NEAR_SHARE = 0.6

#: Where a search is recorded for a certificate, cells close on bounds above this share of the root's: on WK17a the
#: checker's clipped bounds are up to 1e-5 below the prover's, where the root's are some tenths.
BAB_SLACK = 1e-4

#: A search shares its open cells with helpers, where it has some, after so many seconds. A helper searches for so many
#: seconds before it answers with what is left, and gets at most as many cells as would take it this share of them to
#: split once each. Fewer cells than these are not worth a message, which takes so many seconds there and back, unless
#: to split them takes as long as the last of these.
HELP_AFTER = 1.0
HELP_SECONDS = 4.0
HELP_SHARE = 0.25
HELP_CELLS = 32
HELP_DELAY = 0.02
HELP_LEAST = 0.1

#: Processes that search one query together where nobody says how many, if there are cores for them: each takes some
#: 400 MB of memory.
HELP_PROCESSES = 8
