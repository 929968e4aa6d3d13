//! The REST listener: TF Serving's REST API, on the path of every other request.
mod url;
