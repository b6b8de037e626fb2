# The steps of `tests/all` by name, and what is only run now and then.

# every check, cheapest first
ci:
    tests/all

# formatting, as checked by ci
format:
    tests/all format

# clippy over all targets and features, warnings are errors
lint:
    tests/all lint

# the house rules: layers, unsafe code, ordering edges, lengths
tidy:
    cargo test --test tidy

# unit and integration tests
test:
    tests/all test

# a million damaged regions, and a minute of hostile input
hostile:
    MEMBUS_HOSTILE=1000000 MEMBUS_FUZZ_SECONDS=60 cargo test --release --test hostile

# the examples in the documentation
examples:
    tests/all examples

# the documentation, warnings are errors
docs:
    tests/all docs

# the real protocols under loom
loom:
    tests/all loom

# the exhaustive protocol models
models:
    tests/all models

# workers are killed while they count words; the counts must still be right
demo:
    tests/all demo

# licences, sources and bans of the dependencies (needs cargo-deny)
licences:
    tests/all licences

# beside other stores (installs redis-server if missing)
compare:
    tests/all compare
