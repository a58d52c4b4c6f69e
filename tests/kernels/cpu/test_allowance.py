"""What a process may use: affinity and quotas of control groups, of both versions."""

import os

import pytest
from sparse_rt_kernels.cpu import allowance


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine of 64 CPUs with control groups of our own."""
    monkeypatch.setattr(allowance, "allowed_cpus", lambda: frozenset(range(64)))

    def build(cgroup, mounts, files):
        (tmp_path / "cgroup").write_text(cgroup)
        (tmp_path / "mountinfo").write_text(mounts.replace("ROOT", str(tmp_path)))
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return allowance.cpu_share(tmp_path)

    return build


V2 = "30 24 0:26 / ROOT/fs rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = (
    "33 24 0:30 /docker/abc ROOT/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"
    "34 24 0:31 / ROOT/mem rw - cgroup cgroup rw,memory\n"
)


@pytest.mark.parametrize(("cgroup", "mounts", "files", "share"), [
    ("0::/a/b\n", V2, {"fs/a/b/cpu.max": "150000 100000\n"}, 1.5),
    ("0::/a/b\n", V2, {"fs/a/b/cpu.max": "max 100000\n", "fs/a/cpu.max": "400000 200000\n"}, 2.0),
    ("0::/a/b\n", V2, {"fs/a/b/cpu.max": "800000 100000\n", "fs/a/cpu.max": "300000 100000\n"}, 3.0),
    ("0::/a/b\n", V2, {"fs/a/b/cpu.max": "max 100000\n"}, 64.0),
    ("0::/\n", V2, {"fs/cpu.max": "50000 100000\n"}, 0.5),
    ("0::/../../host/path\n", V2, {"fs/cpu.max": "200000 100000\n"}, 2.0),
    ("4:cpu,cpuacct:/docker/abc/inner\n5:memory:/x\n", V1,
     {"cpu/inner/cpu.cfs_quota_us": "250000", "cpu/inner/cpu.cfs_period_us": "100000"}, 2.5),
    ("4:cpu,cpuacct:/docker/abc\n", V1, {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 64.0),
    ("4:cpu,cpuacct:/other\n", V1, {"cpu/cpu.cfs_quota_us": "700000", "cpu/cpu.cfs_period_us": "100000"}, 7.0),
    ("0::/a\n", V2, {"fs/a/cpu.max": "0 100000\n"}, 64.0),
    ("0::/a\n", V2, {"fs/a/cpu.max": "nonsense\n"}, 64.0),
    ("damaged\n", "damaged\n", {}, 64.0),
])  # fmt: skip
def test_quotas(machine, cgroup, mounts, files, share):
    assert machine(cgroup, mounts, files) == share


def test_without_control_groups(tmp_path, monkeypatch):
    monkeypatch.setattr(allowance, "allowed_cpus", lambda: frozenset({3, 5}))
    assert allowance.cpu_share(tmp_path) == 2.0


@pytest.mark.parametrize(("share", "threads"), [(0.25, 1), (1.0, 1), (1.5, 2), (64.0, 64)])
def test_a_part_of_a_cpu_is_a_thread(share, threads, monkeypatch):
    monkeypatch.setattr(allowance, "cpu_share", lambda: share)
    assert allowance.usable_threads() == threads
    assert allowance.is_limited() == (share < (os.cpu_count() or 1))


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux")
def test_affinity_counts():
    before = os.sched_getaffinity(0)
    try:
        for cpu in sorted(before):
            os.sched_setaffinity(0, {cpu})
            assert allowance.allowed_cpus() == {cpu}
            assert allowance.usable_threads() == 1
    finally:
        os.sched_setaffinity(0, before)
