"""What sparse_rt promises, and the tests that hold it to that; docs/trust.md is written from these."""

from typing import NamedTuple

from tests.versions.onnxruntimes import VERSIONS

__all__ = ["LANES", "PROMISES", "Lane", "Promise"]

_RUNTIMES = tuple(VERSIONS)


class Promise(NamedTuple):
    """One promise; `tests` are files, or files and functions, of which every case must pass."""

    section: str
    text: str
    tests: tuple[str, ...]


class Lane(NamedTuple):
    """A longer lane: what it tries, and what its last run said."""

    command: str
    text: str
    last: str


_LAYOUTS = "Blocks of channels, tuned plans, processes and files"
_ANSWERS = "Right answers"
_STOCK = "Inside stock onnxruntime"
_READING = "What stock onnxruntime runs, we run"
_RESOURCES = "Errors and resources"
_SECURITY = "Security"
_PROOF = "Nets"

_NETWORKS = "tests/models/test_image_networks.py"
_TUNING = "tests/tuning/test_tuner.py"
_TRACE = "tests/plan/test_trace.py"
_FORKS = "tests/test_forks.py"
_ISLANDS = "tests/plan/islands/test_island_threads.py"
_STRESS = "tests/stress/test_concurrency.py"
_OUTPUT = "tests/test_output_file.py"
_QUANTIZE = "tests/quantize/test_calibration.py"
_COMMANDS = "tests/cli/test_commands.py"
_FUNCTIONS = "tests/graph/test_local_functions.py"
_EDGES = "tests/kernels/between/test_elementwise_edges.py"
_EXTERNAL = "tests/test_external.py"
_CACHE = "tests/kernels/disk/test_cache_folder.py"
_CODE = "tests/kernels/jit/test_machine_code.py"
_BOUNDARY = "tests/test_boundary.py"
_GROWTH = "tests/models/test_growth.py"

PROMISES = (
    Promise(
        _LAYOUTS,
        "A plan in blocks of channels gives the bits of its own steps, and each step those of onnxruntime",
        (f"{_NETWORKS}::test_a_network",),
    ),
    Promise(
        _LAYOUTS,
        "A padded convolution reads a sum rightly, whatever wrote the residual",
        (f"{_NETWORKS}::test_a_padded_convolution_reads_a_sum",),
    ),
    Promise(
        _LAYOUTS, "The generated networks reach every layout", (f"{_NETWORKS}::test_the_networks_reach_every_layout",)
    ),
    Promise(
        _LAYOUTS,
        "Shapes may change from run to run, and threads share a session, over blocks, too",
        (
            f"{_NETWORKS}::test_shapes_change_between_runs_of_one_session",
            f"{_NETWORKS}::test_threads_of_the_caller_share_a_session",
        ),
    ),
    Promise(
        _LAYOUTS,
        "Kernels over blocks fill their borders and read no byte of others",
        ("tests/kernels/product/test_nchwc8.py",),
    ),
    Promise(
        _LAYOUTS,
        "Steps that disagree on a value's layout or type are found when shapes are bound",
        ("tests/plan/bind/test_check.py",),
    ),
    Promise(
        _LAYOUTS,
        "`verify` judges the plan that `run` takes: a wrong step, kernel or layout is exit 1 and named",
        ("tests/verify/test_verify_mutations.py", "tests/verify/test_tuned_plans.py"),
    ),
    Promise(
        _LAYOUTS,
        '`verify`: exact where arithmetic is, "cannot say" within the reference\'s own noise; hostile input is named',
        ("tests/verify/test_outputs.py", "tests/verify/test_exactness.py", "tests/verify/test_reference.py"),
    ),
    Promise(
        _LAYOUTS,
        "Whatever wins tuning runs right, open sizes too, also when read back by a later session",
        (
            "tests/tuning/test_forced_tuning.py",
            f"{_TUNING}::test_a_dense_kernel_is_packed_as_it_wants_where_sizes_are_open",
        ),
    ),
    Promise(
        _LAYOUTS,
        "Kept decisions that cannot be carried out cost only time",
        (
            f"{_TUNING}::test_kept_decisions_that_cannot_be_carried_out_cost_only_time",
            f"{_TUNING}::test_a_kept_plan_that_cannot_be_built_is_measured_again",
        ),
    ),
    Promise(_LAYOUTS, "Forked children run, drop and make sessions, or are told why not; they never hang", (_FORKS,)),
    Promise(
        _LAYOUTS,
        "Each island has a profile of its own",
        (
            f"{_TRACE}::test_every_island_has_a_profile_of_its_own",
            "tests/bench/test_profile.py::test_profiles_of_several_islands",
            f"{_TRACE}::test_a_profile_replaces_no_other",
        ),
    ),
    Promise(
        _LAYOUTS,
        "Threads do not multiply with islands, and stay on the CPUs that the process may use",
        (_ISLANDS, "tests/kernels/cpu/test_placement.py", "tests/kernels/cpu/test_allowance.py"),
    ),
    Promise(
        _LAYOUTS,
        "Outputs are whole or absent; devices, pipes and FIFOs are written through, links followed, modes kept",
        (_OUTPUT, f"{_COMMANDS}::test_standard_output_as_a_file_holds_nothing_else"),
    ),
    Promise(
        _LAYOUTS,
        "`inspect` tells what only the first run decides",
        ("tests/cli/test_inspect.py::test_inspect_tells_what_the_first_run_decides",),
    ),
    Promise(
        _LAYOUTS,
        "`quantize` refuses what it cannot do before it calibrates, and is held against the float model",
        (_QUANTIZE, "tests/quantize/test_prepare.py", "tests/quantize/test_static.py"),
    ),
    Promise(
        _ANSWERS,
        "Every compressed form has a function of its own name, mixed forms in one file stay apart",
        ("tests/versions/test_forms.py",),
    ),
    Promise(
        _ANSWERS,
        "Files of earlier versions stay readable",
        (f"{_FUNCTIONS}::test_a_file_with_overloads_stays_readable",),
    ),
    Promise(
        _ANSWERS,
        "Compressed layers left to onnxruntime run the right body",
        ("tests/plan/islands/test_compressed_islands.py",),
    ),
    Promise(_ANSWERS, "A Pad joins a convolution only where it pads with zeros", ("tests/plan/prepare/test_pad.py",)),
    Promise(
        _ANSWERS,
        "External data is found beside the model, wherever in the model it is named",
        (
            f"{_EXTERNAL}::test_it_is_found_beside_the_model_wherever_it_is_named",
            f"{_EXTERNAL}::test_a_fault_is_told_wherever_it_is",
        ),
    ),
    Promise(
        _ANSWERS,
        "A fusion knows the ranks and axes that it relies on",
        ("tests/graph/layers/test_ranks.py", "tests/plan/match/test_assumed_shapes.py"),
    ),
    Promise(
        _ANSWERS,
        "Convolutions: every attribute as in onnxruntime, errors too",
        ("tests/plan/steps/test_convolution.py",),
    ),
    Promise(_ANSWERS, "Kernels between layers keep their bounds on inputs made to break them", (_EDGES,)),
    Promise(_ANSWERS, "Clip with one bound, none, NaN or infinities", ("tests/plan/match/test_bounds.py",)),
    Promise(
        _ANSWERS,
        "Scales of 0, NaN, denormal and huge; pools of every size",
        ("tests/plan/match/operands/test_scales.py", "tests/plan/match/operators/test_window.py"),
    ),
    Promise(
        _ANSWERS,
        "A compressed file whose function bodies say something else is refused, other spellings are read",
        (
            f"{_FUNCTIONS}::test_an_altered_body_is_refused",
            f"{_FUNCTIONS}::test_every_single_change_of_a_constant_is_refused",
            f"{_FUNCTIONS}::test_another_spelling_of_a_body_is_read",
            f"{_FUNCTIONS}::test_a_function_of_the_users_in_our_domain_is_refused",
        ),
    ),
    Promise(
        _STOCK,
        "Every operator of the library gives what the function body gives, or what onnxruntime gives in its place",
        ("tests/library/test_node_segment.py", "tests/library/test_form_operators.py"),
    ),
    Promise(
        _STOCK,
        "A row of steps is one operator, to the bit, for any shapes, from many threads, as long as its session lives",
        ("tests/library/test_kernel_block.py",),
    ),
    Promise(
        _STOCK,
        "Compressed files on our kernels: corrupt, refused, cleared cache, forked, at the end of a process",
        ("tests/library/test_path.py", "tests/library/test_stock_sessions.py"),
    ),
    Promise(
        _STOCK,
        "The library of a model serves processes without Python, and refuses other models, CPUs and damage",
        ("tests/library/frozen/test_model_library.py", "tests/library/test_c_program.py"),
    ),
    Promise(
        _STOCK,
        "Compressed operators hold their neighbours, and other engines find the same nodes as before",
        ("tests/graph/neighbours/test_absorb.py", "tests/graph/neighbours/test_restore.py"),
    ),
    Promise(_STOCK, "Hosted plans give what other plans give", ("tests/plan/hosted/test_hosted_step.py",)),
    Promise(
        _READING,
        "Each form of a model that stock onnxruntime opens is opened and runs the same, others are a ModelError",
        ("tests/graph/test_forms.py",),
    ),
    Promise(
        _READING, "Links, hub caches, odd paths and numbers of external data as stock onnxruntime decides", (_EXTERNAL,)
    ),
    Promise(
        _READING,
        "No image ends the process, however little pooling leaves of it",
        ("tests/test_empty_pools.py",),
    ),
    Promise(_READING, "Local functions are inlined as they mean", ("tests/plan/prepare/test_inline.py",)),
    Promise(
        _READING,
        "Hostile content is refused by name",
        ("tests/graph/test_well_formed.py", "tests/graph/test_damaged_models.py"),
    ),
    Promise(_READING, "ONNX's own test suite: a sample never differs from stock", ("tests/backend/test_sample.py",)),
    Promise(_RESOURCES, "Public functions raise only SparseRTError, with the cause", (_BOUNDARY,)),
    Promise(
        _RESOURCES,
        "The cache may fail in any way and costs time only",
        (
            f"{_CACHE}::test_any_call_may_fail_at_any_time",
            f"{_CACHE}::test_every_damaged_byte_is_noticed",
            f"{_CACHE}::test_what_stands_in_a_files_place_is_not_read",
            f"{_CACHE}::test_what_numba_does_not_understand_is_compiled_again",
            "tests/tuning/test_store.py",
        ),
    ),
    Promise(_RESOURCES, "Work grows linearly with a model's nodes; nesting costs no more than its depth", (_GROWTH,)),
    Promise(
        _RESOURCES,
        "A new shape is bound at little cost, bit for bit as step by step; thousands of them in bounded memory",
        ("tests/plan/bind/test_binding.py",),
    ),
    Promise(
        _RESOURCES,
        "What killed processes left is removed by the next",
        (f"{_OUTPUT}::test_what_a_killed_process_left_is_removed_by_the_next", "tests/test_scratch.py"),
    ),
    Promise(
        _RESOURCES,
        "Nothing waits for a FIFO, or reads a device for ever; too many threads are refused",
        (
            f"{_COMMANDS}::test_what_is_no_file_to_read_is_refused_at_once",
            f"{_COMMANDS}::test_more_threads_than_any_machine_has",
        ),
    ),
    Promise(
        _RESOURCES,
        "A failed write leaves an old model, and its external data",
        ("tests/graph/test_model_writer.py",),
    ),
    Promise(
        _RESOURCES, "Peak memory of `compress` and `prune` is below twice the model", ("tests/graph/test_memory.py",)
    ),
    Promise(
        _SECURITY,
        "Nothing that other users own or may write is read or run",
        (
            _CACHE,
            f"{_CODE}::test_code_of_another_user_is_not_run",
            f"{_CODE}::test_code_that_others_may_write_is_not_run",
        ),
    ),
    Promise(
        _SECURITY,
        "Archives are never unpickled, nor unpacked beyond memory",
        (f"{_BOUNDARY}::test_npz_files_that_unpickle_lie_or_explode",),
    ),
    Promise(_PROOF, "Random models, byte-exact where arithmetic is exact", ("tests/fuzz/test_fuzz.py",)),
    Promise(
        _PROOF, "16 threads and changing shapes, dropped sessions, interrupts, changing CPUs: byte-exact", (_STRESS,)
    ),
    Promise(_PROOF, "54 graphs in every form against onnxruntime", ("tests/models/test_agreement.py",)),
    Promise(
        _PROOF,
        "Every kernel variant: boundary sizes, guard bytes, NaN-filled outputs",
        ("tests/kernels/test_conformance.py",),
    ),
)

LANES = (
    Lane(
        "make versions",
        f"Every compressed form in onnxruntime {', '.join(_RUNTIMES[:-1])} and {_RUNTIMES[-1]}",
        "2026-11-30: 191 to 201 of 201 forms as their dense models, which else do not run; 0 failures",
    ),
    Lane(
        "make lowest",
        "The tests beside the lowest version of every dependency",
        "2026-11-30: 11,185 passed; 4 failed that need SymPy, which that onnx-ir does without: corrected after it",
    ),
    Lane(
        "make backend",
        "onnx.backend.test through our session, as it is and pruned",
        "2026-11-30: 2,033 tests, 22 of them random; 0 differ; 9 with sparse layers when pruned",
    ),
    Lane(
        "make tiers",
        "Every tier of kernels",
        "2026-11-30: generic, with bounds checked, interpreted, avx2, avx512: passed; avx2vnni compiled and read",
    ),
    Lane(
        "make fuzz",
        "Random models in every way that they run",
        "2026-11-30: 1,400 models (724 of exact arithmetic), 22,980 nodes; 0 findings",
    ),
    Lane(
        "make layouts",
        "Generated networks over every layout",
        "2026-11-30: the 120 networks of `make test`; the 4,000 were not run whole",
    ),
    Lane(
        "make convolutions",
        "The whole grid of convolutions",
        "2026-11-30: 6,300 layers of an earlier state; the grid not run to its end",
    ),
    Lane(
        "make candidates",
        "Every candidate of tuning as the winner",
        "2026-11-30: a quarter of 9,360; 2 failures, not seen again; not run to its end",
    ),
    Lane(
        "make stress",
        "Threads, signals, forks, processes killed while they compile",
        "2026-11-30: short forms, kills while sparse plans compile; kills during tuning were not run",
    ),
)
