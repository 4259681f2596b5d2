# Sourced by the scripts beside it: picks a Python and keeps a virtual environment for the project.
# It needs a POSIX shell and Python 3.11 to 3.14 with venv and ensurepip, nothing else.
#
#   PYTHON         the interpreter to use, instead of the newest fitting one
#   LLMPROXY_VENV  the environment's folder, instead of .venv (relative to the project)

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P) || exit 1
venv=${LLMPROXY_VENV:-.venv}
case $venv in
/*) ;;
*) venv=$root/$venv ;;
esac

version_of() {
	"$1" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null
}

# Names on the path come first, the newest before the older; then what pyenv keeps off the path.
candidates() {
	if [ -n "${PYTHON:-}" ]; then
		printf '%s\n' "$PYTHON"
		return
	fi
	printf '%s\n' python3.14 python3.13 python3.12 python3.11 python3 python
	for minor in 14 13 12 11; do
		for found in "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3."$minor".*/bin/python3; do
			if [ -x "$found" ]; then printf '%s\n' "$found"; fi
		done
	done
}

# Prints a Python that can make the environment; else says what was found and what is missing.
# Each is run, not only looked for: a pyenv shim may exist and fail.
find_python() {
	seen=
	while IFS= read -r candidate; do
		version=$(version_of "$candidate") || continue
		case $version in
		3.11.* | 3.12.* | 3.13.* | 3.14.*) ;;
		*)
			seen="$seen
  $candidate is Python $version"
			continue
			;;
		esac
		if "$candidate" -c 'import ensurepip, venv' 2>/dev/null; then
			printf '%s\n' "$candidate"
			return
		fi
		seen="$seen
  $candidate is Python $version without venv or ensurepip (Debian: apt install python3-venv)"
	done <<-END
		$(candidates)
	END
	printf 'llmproxy needs Python 3.11, 3.12, 3.13 or 3.14 with venv and ensurepip.\nFound:%s\n' \
		"${seen:-
  none${PYTHON:+: \$PYTHON ($PYTHON) does not run}}" >&2
	return 1
}

# Whether the environment was made for this project file, in this place, with this Python.
is_current() {
	[ -f "$stamp" ] && [ "$(cat "$stamp")" = "$key" ] || return 1
	made_with=$(version_of "$venv/bin/python") || return 1
	[ -z "${PYTHON:-}" ] || [ "$(version_of "$PYTHON")" = "$made_with" ]
}

# Makes the environment fit for $1 (serve, test or check); costs some milliseconds when it is.
prepare() {
	stamp=$venv/.llmproxy-$1
	key="$(cksum <"$root/pyproject.toml") $root"
	if is_current; then return; fi
	base=$(find_python) || exit 1
	"$base" "$root/scripts/python_environment.py" "$root" "$venv" "$1" "$key" || exit 1
}
