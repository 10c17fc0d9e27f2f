//! A column of a list, by the name that was typed: that of `prlctl list` and of `vzlist` are others, and are looked for alike.

use engine::{Code, Failure, Result};

/// A column that can be asked for.
pub trait Named: 'static {
    /// Its name for `-o` and `-s`.
    fn name(&self) -> &'static str;
}

/// The one of that name, or of one of the `aliases`: other names, each with the one that it stands for. `list` is the command whose columns they are.
///
/// # Errors
/// [`Code::UnknownField`].
pub fn find<Column: Named>(
    columns: &'static [Column],
    aliases: &[(&str, &'static str)],
    name: &str,
    list: &str,
) -> Result<&'static Column> {
    let name = aliases.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, name)| name);
    columns.iter().find(|column| column.name() == name).ok_or_else(|| {
        Failure::new(Code::UnknownField, format!("Unknown field: {}", tree::escaped(name.as_bytes())))
            .because("there is no column of that name")
            .unchanged()
            .hint(format!("`{list} -L` lists the columns there are"))
    })
}
