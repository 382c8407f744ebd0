use std::io::Cursor;

use dicom_object::InMemDicomObject;

use crate::{Error, Limits, TransferSyntax, object};

/// Reads a data set that is no file: that of a command (PS3.7 section 6.3).
///
/// Errors with [`Error::Gate`] for what may not pass, and [`Error::RetiredTransferSyntax`].
pub fn parse_data_set(bytes: &[u8], syntax: TransferSyntax, limits: &Limits) -> Result<InMemDicomObject, Error> {
    if !syntax.can_be_parsed() {
        return Err(Error::RetiredTransferSyntax(syntax.uid()));
    }
    Ok(object::build(&mut Cursor::new(bytes), syntax, limits)?.1)
}
