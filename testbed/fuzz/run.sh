#!/bin/sh
# Fuzzes one target: run.sh TARGET RUNS [MAX_LEN]. Works on stable Rust without cargo-fuzz; coverage guides it.
# Needs a C++ compiler for libFuzzer; installs Debian's when it may.
set -eu
target=${1:?usage: run.sh TARGET RUNS [MAX_LEN]; targets: $(cd "$(dirname "$0")/src/bin" && ls | sed 's/\.rs$//' | tr '\n' ' ')}
runs=${2:?usage: run.sh TARGET RUNS [MAX_LEN]}
max_len=${3:-512}
cd "$(dirname "$0")"

if ! command -v g++ >/dev/null && ! command -v clang++ >/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get install -y --no-install-recommends g++
    else
        echo "run.sh: libFuzzer needs a C++ compiler; install one, e.g. apt-get install g++" >&2
        exit 2
    fi
fi

triple=$(rustc -vV | sed -n 's/^host: //p')
export RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 --cfg fuzzing"
cargo build --release --locked --target "$triple" --bin "$target"

mkdir -p "corpus/$target" "artifacts/$target"
set -- "corpus/$target"
[ -d "seeds/$target" ] && set -- "$@" "seeds/$target"
exec "target/$triple/release/$target" "$@" -runs="$runs" -max_len="$max_len" \
    -artifact_prefix="artifacts/$target/" -print_final_stats=1 -timeout=5 -rss_limit_mb=1024
