#!/bin/sh
# Brings the terminal tests of libvterm, from the sources of the Debian that apt knows, into FOLDER:
#   .ci/vt-list.sh FOLDER
# Nothing of this machine's apt is changed. Harmless to repeat.
set -eu
folder=$1
[ -f "$folder/90vttest_01-movement-1.test" ] && exit 0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/lists/partial" "$work/parts" "$folder"
for place in /etc/apt/sources.list /etc/apt/sources.list.d/*; do
    [ -f "$place" ] || continue
    sed -e 's/^Types: .*/Types: deb-src/' -e 's/^deb /deb-src /' "$place" >"$work/parts/${place##*/}"
done
[ ! -f "$work/parts/sources.list" ] || mv "$work/parts/sources.list" "$work/parts/main.list"
cd "$work"
set -- -qq -o Dir::Etc::SourceList=/dev/null -o Dir::Etc::SourceParts="$work/parts" \
    -o Dir::State::Lists="$work/lists" -o APT::Sandbox::User=root
apt-get "$@" update
apt-get "$@" source --download-only libvterm 2>"$work/said" || { cat "$work/said" >&2; exit 1; }
tar -xzf "$work"/libvterm_*.orig.tar.gz --wildcards '*/t/*.test'
cp "$work"/libvterm-*/t/*.test "$folder"
