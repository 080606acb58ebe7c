"""What all tests share: the fixtures that start real servers, only when a test asks for one."""

pytest_plugins = ["tests.fix_servers", "tests.fix_ledger"]
