#!/bin/sh
# Checks the first line of a commit message: `area: imperative`, 72 characters at most.
#
#   tools/commit_subject.sh FILE     the message in FILE (git's commit-msg hook)
#   tools/commit_subject.sh A..B     the subjects of a range of commits
set -eu

check() {
    case $1 in
        "Merge "* | "Revert "* | "fixup! "* | "squash! "*) return 0 ;;
    esac
    if ! printf '%s\n' "$1" | grep -Eq '^[a-z0-9_/, .-]+: [^ ].*[^.]$'; then
        echo "commit subject: expected 'area: what it does' without a full stop, as in" >&2
        echo "  rapl: read the zones of dies; got: $1" >&2
        return 1
    fi
    # Characters, not bytes.
    length=$(printf '%s' "$1" | LC_ALL=C.UTF-8 wc -m)
    if [ "$length" -gt 72 ]; then
        echo "commit subject: expected at most 72 characters, got $length: $1" >&2
        return 1
    fi
}

case $1 in
    *..*)
        failed=0
        subjects=$(git log --no-merges --format=%s "$1")
        while IFS= read -r subject; do
            [ -z "$subject" ] || check "$subject" || failed=1
        done <<LINES
$subjects
LINES
        exit $failed
        ;;
    *) check "$(sed -e '/^#/d' -e '/./!d' "$1" | head -n 1)" ;;
esac
