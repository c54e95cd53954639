# shellcheck shell=bash
# Sourced by deb.sh and rpm.sh.

# with_refusal SOURCE FILE: prints FILE with packaging/refuse-if-locked.sh where it says @REFUSE_IF_LOCKED@.
with_refusal() {
    sed -e "/^ *@REFUSE_IF_LOCKED@\$/{
        r $1/packaging/refuse-if-locked.sh
        d
    }" "$2"
}
