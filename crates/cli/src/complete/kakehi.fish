# Completions of kakehi for fish.
function __kakehi_complete
    set -l words (commandline --current-process --tokenize --cut-at-cursor)
    KAKEHI_COMPLETE=fish kakehi $words (commandline --current-token --cut-at-cursor) 2>/dev/null
end
complete -c kakehi --keep-order --no-files --arguments '(__kakehi_complete)'
