//! How the stub computes an answer from the rows of a request, and what that costs.
use crate::args::Args;
use crate::burn::{Burn, Slot};
use crate::curve::Curves;
use crate::rows;
use crate::threads::Threads;
use crate::timer::Clock;
use crate::{Outcome, stub::Refusal};
use session::{Runtime, Session};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Calls to models run on as many threads as a server would have for its clients.
const THREADS: usize = 128;

#[derive(Default)]
pub struct Compute {
    curves: Curves,
    burn: Option<Burn>,
    models: BTreeMap<String, Model>,
    threads: Option<Threads>,
}

/// A model on TensorFlow's runtime.
struct Model {
    session: Arc<Session>,
    dims: Vec<i64>,
}

impl Compute {
    pub const OPTIONS: [&str; 4] = ["curve", "burn", "tensorflow", "saved-model"];

    pub fn new(args: &Args) -> Outcome<Self> {
        let mut compute = Self { burn: args.get("burn").map(Burn::start).transpose()?, ..Self::default() };
        for text in args.all("curve") {
            compute.curves.add(text)?;
        }
        if let Some(library) = args.get("tensorflow") {
            let runtime = Runtime::load(Path::new(library))?;
            for text in args.all("saved-model") {
                compute.add(&runtime, text)?;
            }
            compute.threads = Some(Threads::start(THREADS));
        }
        Ok(compute)
    }

    /// From `NAME,FOLDER,INPUT,OUTPUT,DIMS`.
    fn add(&mut self, runtime: &Runtime, text: &str) -> Outcome<()> {
        let [name, folder, input, output, dims] = text.split(',').collect::<Vec<_>>()[..] else {
            return Err("--saved-model: expected NAME,FOLDER,INPUT,OUTPUT,DIMS".into());
        };
        let mut all = vec![-1];
        for dim in dims.split('x') {
            all.push(dim.parse()?);
        }
        let session = Arc::new(runtime.session(folder, input, output)?);
        self.models.insert(name.to_owned(), Model { session, dims: all });
        Ok(())
    }

    pub fn is_empty(&self) -> bool {
        self.curves.is_empty() && self.burn.is_none() && self.models.is_empty()
    }

    /// The input of a model on TensorFlow's runtime.
    pub fn dims(&self, model: &str) -> Option<&[i64]> {
        self.models.get(model).map(|model| &model.dims[..])
    }

    /// A thread for a call, if calls need one.
    pub fn thread(&self) -> Result<Option<Slot<'_>>, Refusal> {
        let Some(burn) = &self.burn else { return Ok(None) };
        burn.take().map(Some).ok_or(Refusal("8", "Server Threadpool Exhausted"))
    }

    /// Spends the time of a call without rows.
    pub async fn idle(&self, slot: Option<Slot<'_>>) {
        if let (Some(burn), Some(slot)) = (&self.burn, slot) {
            burn.work(slot, 0).await;
        }
    }

    /// The rows and the framed answer.
    pub async fn answer(
        &self,
        request: &[u8],
        dims: impl Fn(&str) -> Option<Vec<i64>>,
        slot: Option<Slot<'_>>,
        clock: &Clock,
    ) -> Result<(u64, Vec<u8>), Refusal> {
        let wrong = Refusal("3", "the stub expected other rows");
        let Some((model, input)) = rows::parse(request, dims) else { return Err(wrong) };
        let count = input.dims[0] as u64;
        let values = match (self.models.get(&model), &self.threads) {
            (Some(Model { session, .. }), Some(threads)) => {
                let session = session.clone();
                let ran = threads.run(move || session.run(&input.dims, &input.values)).await;
                ran.and_then(Result::ok).ok_or(Refusal("13", "TensorFlow refused the run"))?
            }
            _ => rows::compute(&input),
        };
        if let (Some(burn), Some(slot)) = (&self.burn, slot) {
            burn.work(slot, count).await;
        }
        let timer = |_| Refusal("13", "the stub's timer failed");
        self.curves.run(clock, &model, count).await.map_err(timer)?;
        Ok((count, rows::answer(&model, count, values)))
    }
}
