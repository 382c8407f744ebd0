use std::io::Cursor;

use dicom_object::InMemDicomObject;

use crate::{Error, Limits, TransferSyntax, gate, parse::parse};

/// Parses a data set that is no file: that of a command (PS3.7 section 6.3). Gate first, then the parser.
///
/// Errors with [`Error::Gate`] for what may not pass, [`Error::DataSet`] for what cannot be parsed, and
/// [`Error::RetiredTransferSyntax`].
pub fn parse_data_set(bytes: &[u8], syntax: TransferSyntax, limits: &Limits) -> Result<InMemDicomObject, Error> {
    let scan = gate::scan_seekable(&mut Cursor::new(bytes), syntax, limits)?;
    if !syntax.can_be_parsed() {
        return Err(Error::RetiredTransferSyntax(syntax.uid()));
    }
    parse(bytes, syntax, &scan, limits).map_err(|_| Error::DataSet)
}
