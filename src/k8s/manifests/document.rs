// SPDX-License-Identifier: Apache-2.0
//! Cuts a file into its YAML documents, without parsing them.
//!
//! A line that begins with `---` or `...` ends a document wherever it stands, even inside a block
//! scalar (YAML 1.2.2 §9.1.2), so cutting needs no parser, documents can be parsed in parallel,
//! and what is wrong with one leaves the others alone.

/// One document of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Document<'t> {
    /// From 1, counting only documents that are not empty, as a reader of the file would.
    pub number: usize,
    /// Lines of the file before `text`.
    pub line_offset: usize,
    pub text: &'t str,
}

/// The documents of `text` that hold more than blanks, comments and directives.
pub(super) fn split(text: &str) -> Vec<Document<'_>> {
    let mut documents = Vec::new();
    let mut push = |start: usize, end: usize, line_offset: usize| {
        let text = &text[start..end];
        if text.lines().any(is_content) {
            documents.push(Document { number: documents.len() + 1, line_offset, text });
        }
    };

    let (mut start, mut first_line, mut at) = (0, 0, 0);
    for (number, line) in text.split_inclusive('\n').enumerate() {
        if let Some(rest) = marker(line) {
            push(start, at, first_line);
            // What follows `--- ` on its line belongs to the new document.
            start = at + line.len() - rest.len();
            first_line = number;
        }
        at += line.len();
    }
    push(start, text.len(), first_line);
    documents
}

/// The rest of a line that ends the document before it.
fn marker(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("---").or_else(|| line.strip_prefix("..."))?;
    rest.is_empty()
        .then_some(rest)
        .or_else(|| rest.starts_with([' ', '\t', '\n', '\r']).then_some(rest))
}

pub(super) fn is_content(line: &str) -> bool {
    let line = line.trim();
    !line.is_empty() && !line.starts_with(['#', '%'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_counted_and_know_their_first_line() {
        let text =
            "# a comment\n---\na: 1\n---\n\n# nothing\n---\nb: 2\n...\n%YAML 1.2\n--- {c: 3}\n";
        let found: Vec<_> = split(text)
            .into_iter()
            .map(|document| (document.number, document.line_offset, document.text))
            .collect();
        assert_eq!(found, [(1, 1, "\na: 1\n"), (2, 6, "\nb: 2\n"), (3, 10, " {c: 3}\n")]);
    }

    #[test]
    fn dashes_inside_a_line_cut_nothing() {
        let text = "a: |\n  ---\n  b\n----\nc: ---\n---d\n";
        assert_eq!(split(text).len(), 1);
    }

    #[test]
    fn a_file_without_markers_is_one_document() {
        assert_eq!(split("a: 1"), [Document { number: 1, line_offset: 0, text: "a: 1" }]);
        assert_eq!(split("\n# only this\n"), []);
        assert_eq!(split("a: 1\r\n---\r\nb: 2\r\n").len(), 2);
    }
}
