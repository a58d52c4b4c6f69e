"""The dense model, with the names of the sparse one."""

from sparse_rt.bench.named import named_dense_model


def test_the_dense_model_of_a_compressed_file_has_its_names(files):
    model, changed = named_dense_model(str(files["pruned_compressed"]))
    plain, same = named_dense_model(str(files["pruned"]))
    assert changed
    assert not same
    assert [node.name for node in model.graph] == [node.name for node in plain.graph]
