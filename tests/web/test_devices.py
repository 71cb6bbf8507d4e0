"""The device picker without a GPU, and what nvidia-smi says where there is one."""

from __future__ import annotations

from moe_hub.web.devices import devices, parse_gpus


def test_this_machine_has_auto_and_cpu_with_free_memory() -> None:
    found = dict(devices())
    assert list(found)[:2] == ["auto", "cpu"]
    assert "GiB free" in found["cpu"]


def test_lines_of_nvidia_smi() -> None:
    text = "0, NVIDIA H100 80GB HBM3, 80559, 81559\n1, NVIDIA H100, 1024, 81559\nnot a line\n"
    assert parse_gpus(text) == [
        ("cuda:0", "NVIDIA H100 80GB HBM3, 78.7 of 79.6 GiB free"),
        ("cuda:1", "NVIDIA H100, 1.0 of 79.6 GiB free"),
    ]
