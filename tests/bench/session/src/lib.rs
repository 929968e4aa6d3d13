//! A SavedModel in a session of TensorFlow's runtime, with one input and one output of floats. The
//! library is loaded at run time, from TensorFlow's Python package.
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::Path;
use std::ptr::{null, null_mut};
use std::sync::Arc;

const FLOAT: c_int = 1;
const TAG: &CStr = c"serve";

type Pointer = *mut c_void;

/// `TF_Output`: an operation of a graph and the index of one of its outputs.
#[repr(C)]
#[derive(Clone, Copy)]
struct Output {
    operation: Pointer,
    index: c_int,
}

macro_rules! api {
    ($($name:ident: fn($($argument:ty),*) $(-> $result:ty)?;)*) => {
        /// The functions of TensorFlow's C API that are used here.
        #[allow(non_snake_case)]
        struct Api {
            $($name: unsafe extern "C" fn($($argument),*) $(-> $result)?,)*
            // Must outlive the functions.
            _library: libloading::Library,
        }

        impl Api {
            fn load(path: &Path) -> Result<Self, libloading::Error> {
                // SAFETY: TensorFlow's library may be loaded at any time, and its functions have
                // these types (tensorflow/c/c_api.h).
                unsafe {
                    let library = libloading::Library::new(path)?;
                    Ok(Self {
                        $($name: *library.get(concat!(stringify!($name), "\0").as_bytes())?,)*
                        _library: library,
                    })
                }
            }
        }
    };
}

api! {
    TF_NewStatus: fn() -> Pointer;
    TF_DeleteStatus: fn(Pointer);
    TF_GetCode: fn(Pointer) -> c_int;
    TF_Message: fn(Pointer) -> *const c_char;
    TF_NewGraph: fn() -> Pointer;
    TF_NewSessionOptions: fn() -> Pointer;
    TF_DeleteSessionOptions: fn(Pointer);
    TF_LoadSessionFromSavedModel: fn(Pointer, *const c_void, *const c_char, *const *const c_char, c_int, Pointer, Pointer, Pointer) -> Pointer;
    TF_GraphOperationByName: fn(Pointer, *const c_char) -> Pointer;
    TF_AllocateTensor: fn(c_int, *const i64, c_int, usize) -> Pointer;
    TF_DeleteTensor: fn(Pointer);
    TF_TensorData: fn(Pointer) -> Pointer;
    TF_TensorByteSize: fn(Pointer) -> usize;
    TF_SessionRun: fn(Pointer, *const c_void, *const Output, *const Pointer, c_int, *const Output, *mut Pointer, c_int, *const Pointer, c_int, Pointer, Pointer);
}

/// TensorFlow's runtime.
#[derive(Clone)]
pub struct Runtime(Arc<Api>);

/// A loaded model. It stays loaded until the process ends.
pub struct Session {
    api: Arc<Api>,
    session: Pointer,
    input: Output,
    output: Output,
}

// SAFETY: TF_SessionRun may be called from many threads at once, and nothing else changes.
unsafe impl Send for Session {}
// SAFETY: as above.
unsafe impl Sync for Session {}

impl Runtime {
    /// `library`: the path of `libtensorflow_cc.so.2`.
    ///
    /// # Errors
    /// It cannot be loaded.
    pub fn load(library: &Path) -> Result<Self, String> {
        Api::load(library).map(|api| Self(Arc::new(api))).map_err(|e| e.to_string())
    }

    /// Loads a SavedModel. `input` and `output` are names of tensors in its graph, such as
    /// `StatefulPartitionedCall:0`.
    ///
    /// # Errors
    /// TensorFlow's message, or the name of a tensor that the graph does not have.
    pub fn session(&self, folder: &str, input: &str, output: &str) -> Result<Session, String> {
        let api = &self.0;
        let folder = CString::new(folder).map_err(|e| e.to_string())?;
        // SAFETY: the handles are those that TensorFlow returned, and the strings live on.
        unsafe {
            let (graph, options) = ((api.TF_NewGraph)(), (api.TF_NewSessionOptions)());
            let tags = [TAG.as_ptr()];
            let session = self.checked(|status| {
                let (tags, path) = (tags.as_ptr(), folder.as_ptr());
                (api.TF_LoadSessionFromSavedModel)(options, null(), path, tags, 1, graph, null_mut(), status)
            });
            (api.TF_DeleteSessionOptions)(options);
            let find = |tensor: &str| {
                let (operation, index) = tensor.split_once(':').unwrap_or((tensor, "0"));
                let name = CString::new(operation).map_err(|e| e.to_string())?;
                let operation = (api.TF_GraphOperationByName)(graph, name.as_ptr());
                let index = index.parse().map_err(|_| format!("`{tensor}` is not a tensor"))?;
                if operation.is_null() {
                    return Err(format!("the graph has no tensor `{tensor}`"));
                }
                Ok(Output { operation, index })
            };
            let (session, input, output) = (session?, find(input)?, find(output)?);
            Ok(Session { api: api.clone(), session, input, output })
        }
    }

    fn checked<T>(&self, call: impl FnOnce(Pointer) -> T) -> Result<T, String> {
        checked(&self.0, call)
    }
}

impl Session {
    /// Runs the model on little-endian floats and returns those of its output.
    ///
    /// # Errors
    /// TensorFlow's message.
    pub fn run(&self, dims: &[i64], values: &[u8]) -> Result<Vec<u8>, String> {
        let api = &self.api;
        let count: i64 = dims.iter().product();
        if count < 0 || usize::try_from(count).ok().and_then(|n| n.checked_mul(4)) != Some(values.len()) {
            return Err(format!("{} bytes are not a tensor of {dims:?}", values.len()));
        }
        // SAFETY: the tensor has as many bytes as are copied to it, the result as many as are
        // copied from it, and both are deleted once.
        unsafe {
            let tensor = (api.TF_AllocateTensor)(FLOAT, dims.as_ptr(), dims.len() as c_int, values.len());
            let to = (api.TF_TensorData)(tensor).cast::<u8>();
            std::ptr::copy_nonoverlapping(values.as_ptr(), to, values.len());
            let mut result = null_mut();
            let ran = checked(api, |status| {
                (api.TF_SessionRun)(
                    self.session,
                    null(),
                    &self.input,
                    &tensor,
                    1,
                    &self.output,
                    &mut result,
                    1,
                    null(),
                    0,
                    null_mut(),
                    status,
                );
            });
            (api.TF_DeleteTensor)(tensor);
            ran?;
            let from = (api.TF_TensorData)(result).cast::<u8>();
            let copied = std::slice::from_raw_parts(from, (api.TF_TensorByteSize)(result)).to_vec();
            (api.TF_DeleteTensor)(result);
            Ok(copied)
        }
    }
}

/// Calls a function with a status, and returns its message if it is not OK.
fn checked<T>(api: &Api, call: impl FnOnce(Pointer) -> T) -> Result<T, String> {
    // SAFETY: the status is deleted after its last use, and its message copied before.
    unsafe {
        let status = (api.TF_NewStatus)();
        let result = call(status);
        let failed = (api.TF_GetCode)(status) != 0;
        let text = failed.then(|| CStr::from_ptr((api.TF_Message)(status)).to_string_lossy().into_owned());
        (api.TF_DeleteStatus)(status);
        text.map_or(Ok(result), Err)
    }
}
