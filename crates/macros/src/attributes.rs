//! The content of `#[command(..)]` and of the doc comment.

use syn::{
    Attribute, DeriveInput, Expr, ExprLit, Ident, Lit, LitStr, Meta, Path, Result, Type,
    ext::IdentExt, meta::ParseNestedMeta, spanned::Spanned,
};

/// The longest name of a command, in bytes.
const LONGEST: usize = 64;

/// Names that start with this are answered by every server itself.
const RESERVED: &str = "kakehi.";

#[derive(Default)]
pub(crate) struct Attributes {
    pub(crate) name: String,
    pub(crate) text: String,
    pub(crate) progress: Option<Type>,
    pub(crate) reply: Option<Type>,
    pub(crate) fault: Option<Type>,
    pub(crate) read_only: bool,
    pub(crate) library: Option<Path>,
}

impl Attributes {
    pub(crate) fn read(input: &DeriveInput) -> Result<Self> {
        let mut name = None;
        let mut read = Self { text: text(&input.attrs), ..Self::default() };
        let is_ours = |attribute: &&Attribute| {
            attribute.path().is_ident("command") || attribute.path().is_ident("kakehi")
        };
        for attribute in input.attrs.iter().filter(is_ours) {
            attribute.parse_nested_meta(|meta| read.one(&mut name, &meta))?;
        }
        let is_given = name.is_some();
        let name = name.unwrap_or_else(|| {
            LitStr::new(&snake_case(&input.ident.unraw().to_string()), input.ident.span())
        });
        check(&name, is_given)?;
        read.name = name.value();
        Ok(read)
    }

    fn one(&mut self, name: &mut Option<LitStr>, meta: &ParseNestedMeta<'_>) -> Result<()> {
        if meta.path.is_ident("name") {
            return once(name, meta, |meta| meta.value()?.parse());
        }
        if meta.path.is_ident("progress") {
            return once(&mut self.progress, meta, |meta| meta.value()?.parse());
        }
        if meta.path.is_ident("reply") {
            return once(&mut self.reply, meta, |meta| meta.value()?.parse());
        }
        if meta.path.is_ident("fault") {
            return once(&mut self.fault, meta, |meta| meta.value()?.parse());
        }
        if meta.path.is_ident("crate") {
            return once(&mut self.library, meta, |meta| meta.value()?.call(Path::parse_mod_style));
        }
        if meta.path.is_ident("read_only") {
            self.read_only = true;
            return Ok(());
        }
        Err(meta.error(
            "unknown attribute: expected `name`, `progress`, `reply`, `fault`, `read_only` or `crate`",
        ))
    }
}

fn once<T>(
    to: &mut Option<T>,
    meta: &ParseNestedMeta<'_>,
    read: impl FnOnce(&ParseNestedMeta<'_>) -> Result<T>,
) -> Result<()> {
    if to.is_some() {
        let name = meta.path.get_ident().map(Ident::to_string).unwrap_or_default();
        return Err(meta.error(format!("`{name}` is given twice")));
    }
    *to = Some(read(meta)?);
    Ok(())
}

fn check(name: &LitStr, is_given: bool) -> Result<()> {
    let text = name.value();
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-.".contains(c);
    let why = if text.is_empty() || text.len() > LONGEST {
        format!("the name of a command has 1 to {LONGEST} characters, `{text}` has {}", text.len())
    } else if let Some(c) = text.chars().find(|c| !allowed(*c)) {
        let remedy = if is_given { "" } else { "; set one by `#[command(name = \"..\")]`" };
        format!(
            "the name of a command consists of `a-z`, `0-9`, `_`, `-` and `.`, not {c:?}{remedy}"
        )
    } else if text.starts_with(RESERVED) {
        format!("names that start with `{RESERVED}` are reserved for the server")
    } else {
        return Ok(());
    };
    Err(syn::Error::new(name.span(), why))
}

/// `PurgeAll` becomes `purge_all`, `HTTPCheck` becomes `http_check`.
fn snake_case(name: &str) -> String {
    let chars: Vec<char> = name.chars().collect();
    let mut snake = String::new();
    for (at, c) in chars.iter().enumerate() {
        let before = at.checked_sub(1).and_then(|at| chars.get(at));
        let after = chars.get(at + 1);
        let starts_word = c.is_uppercase()
            && before.is_some_and(|before| {
                *before != '_'
                    && (!before.is_uppercase() || after.is_some_and(|after| after.is_lowercase()))
            });
        if starts_word {
            snake.push('_');
        }
        snake.extend(c.to_lowercase());
    }
    snake
}

/// The doc comment, without the space after `///`.
fn text(attributes: &[Attribute]) -> String {
    let lines = attributes.iter().filter_map(|attribute| match &attribute.meta {
        Meta::NameValue(meta) if meta.path.is_ident("doc") => match &meta.value {
            Expr::Lit(ExprLit { lit: Lit::Str(line), .. }) => Some(line.value()),
            _ => None,
        },
        _ => None,
    });
    let lines: Vec<String> =
        lines.map(|line| line.strip_prefix(' ').unwrap_or(&line).to_owned()).collect();
    lines.join("\n").trim().to_owned()
}

/// Rejects a type that cannot be a command.
pub(crate) fn refuse_union(input: &DeriveInput) -> Result<()> {
    let syn::Data::Union(data) = &input.data else { return Ok(()) };
    Err(syn::Error::new(data.union_token.span(), "a command is a struct or an enum"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> std::result::Result<Attributes, String> {
        let input = syn::parse_str::<DeriveInput>(text).unwrap();
        Attributes::read(&input).map_err(|error| error.to_string())
    }

    #[test]
    fn a_name_is_made_of_the_types_name() {
        for (ident, name) in [
            ("Warm", "warm"),
            ("PurgeAll", "purge_all"),
            ("HTTPCheck", "http_check"),
            ("Purge2", "purge2"),
            ("Step_One", "step_one"),
            ("r#Type", "type"),
        ] {
            assert_eq!(read(&format!("struct {ident};")).unwrap().name, name);
        }
    }

    #[test]
    fn the_doc_comment_is_the_description() {
        let read = read("/// Loads keys.\n///\n///  Indented.\nstruct Warm;").unwrap();
        assert_eq!(read.text, "Loads keys.\n\n Indented.");
    }

    #[test]
    fn each_mistake_is_named() {
        for (text, why) in [
            ("#[command(name = \"Warm\")] struct A;", "not 'W'"),
            ("#[command(name = \"a b\")] struct A;", "not ' '"),
            ("#[command(name = \"\")] struct A;", "has 1 to 64 characters"),
            ("#[command(name = \"kakehi.x\")] struct A;", "are reserved for the server"),
            ("struct Wärm;", "set one by `#[command(name = \"..\")]`"),
            ("#[command(answer = u8)] struct A;", "unknown attribute: expected `name`"),
            ("#[command(reply = u8, reply = u8)] struct A;", "`reply` is given twice"),
            ("#[command(reply)] struct A;", "expected `=`"),
        ] {
            let error = read(text).err().unwrap_or_default();
            assert!(error.contains(why), "{text}: {error:?}");
        }
        let long = format!("#[command(name = \"{}\")] struct A;", "a".repeat(65));
        assert!(read(&long).err().unwrap().ends_with("has 65"));
    }
}
