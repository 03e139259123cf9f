# Prints the targets of a Makefile that carry a `## comment`, under its `## headings`.
/^## / { printf "\n%s\n", substr($0, 4) }
/^[a-z][a-z-]*:.*## / {
    target = $0
    sub(/:.*/, "", target)
    meaning = $0
    sub(/.*## /, "", meaning)
    printf "  make %-16s %s\n", target, meaning
}
