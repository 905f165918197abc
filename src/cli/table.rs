// SPDX-License-Identifier: Apache-2.0
//! Columns of text, three blanks apart, with nothing after the last.

/// Draws `rows` under `titles`. A cell may be empty; every row has as many cells as there are
/// titles.
pub(super) fn draw<const N: usize>(
    titles: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut lines = vec![titles.map(str::to_owned)];
    lines.extend(rows);

    let mut widths = [0; N];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }

    let mut text = String::new();
    for line in &lines {
        let mut drawn = String::new();
        for (width, cell) in widths.iter().zip(line) {
            drawn.push_str(&format!("{cell:<width$}   "));
        }
        text.push_str(drawn.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_end_with_their_text() {
        let rows = [["1", "10.0.0.1:443", "x"], ["", "", "yy"], ["22", "a", ""]];
        let rows = rows.map(|row| row.map(str::to_owned));
        assert_eq!(
            draw(["ID", "Frontend", "Backend"], rows),
            "ID   Frontend       Backend\n\
             1    10.0.0.1:443   x\n\
             \u{20}                   yy\n\
             22   a\n"
        );
    }
}
