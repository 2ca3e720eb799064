import pytest

BACKENDS = ("fake", "real")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--device",
        choices=BACKENDS,
        help="run the contract on this device alone; with real, a test that cannot run fails",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "backends(*names): the devices that a contract test can be run on"
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "backend" not in metafunc.fixturenames:
        return
    chosen = metafunc.config.getoption("--device")
    marker = metafunc.definition.get_closest_marker("backends")
    metafunc.parametrize(
        "backend",
        [
            name
            for name in BACKENDS
            if chosen in {None, name} and (not marker or name in marker.args)
        ],
        indirect=True,
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out, with a chosen device, what can be shown on another one alone."""
    chosen = config.getoption("--device")
    if chosen:
        others = [
            item
            for item in items
            if (marker := item.get_closest_marker("backends")) and chosen not in marker.args
        ]
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if item not in others]
