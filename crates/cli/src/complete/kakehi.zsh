#compdef kakehi
# Completions of kakehi for zsh.
_kakehi() {
    local line
    local -a values folders
    for line in "${(@f)$(KAKEHI_COMPLETE=zsh kakehi "${(@)words[1,CURRENT-1]}" "$PREFIX" 2>/dev/null)}"; do
        case $line in
            '') ;;
            */ | */:*) folders+=("$line") ;;
            *) values+=("$line") ;;
        esac
    done
    (($#values)) && _describe -V value values
    (($#folders)) && _describe -V folder folders -S ''
    (($#values + $#folders))
}
if [[ ${funcstack[1]-} == _kakehi ]]; then
    _kakehi "$@"
else
    compdef _kakehi kakehi
fi
