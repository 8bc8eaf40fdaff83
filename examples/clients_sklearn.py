"""A grid search with scikit-learn, through a backend for joblib: its tasks become those of a microscoop.Executor.

It needs scikit-learn.  The Executor's options go with the backend's name, as in
parallel_config("microscoop", hosts=["node1"]).

    $ python3 examples/clients_sklearn.py
    best: {'C': 10, 'gamma': 0.0001}, score 0.903; all scores as without workers: True
"""
import joblib
from joblib.parallel import ParallelBackendBase
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from sklearn.svm import SVC

import microscoop


class Backend(ParallelBackendBase):
    """joblib.Parallel over processes here and on other machines."""
    supports_retrieve_callback = True

    def effective_n_jobs(self, n_jobs):
        return joblib.cpu_count() if n_jobs in (None, -1) else n_jobs

    def configure(self, n_jobs=1, parallel=None, **_):
        self.parallel, n_jobs = parallel, self.effective_n_jobs(n_jobs)
        self.executor = microscoop.Executor(n_jobs, **self.backend_kwargs)
        return n_jobs

    def submit(self, func, callback=None):
        future = self.executor.submit(func)
        future.add_done_callback(callback)
        return future

    def retrieve_result_callback(self, future):
        return future.result()

    def abort_everything(self, ensure_ready=True):
        self.executor.shutdown(wait=False, cancel_futures=True)
        if ensure_ready:
            self.configure(self.parallel.n_jobs, self.parallel)

    def terminate(self):
        self.executor.shutdown()


joblib.register_parallel_backend("microscoop", Backend)

if __name__ == "__main__":
    images, digits = load_digits(return_X_y=True)
    search = GridSearchCV(SVC(), {"C": [0.1, 1, 10], "gamma": [0.0001, 0.001, 0.01]}, cv=3)
    serial = search.fit(images[:600], digits[:600]).cv_results_["mean_test_score"]
    with joblib.parallel_config("microscoop", n_jobs=3):
        search.fit(images[:600], digits[:600])
    print("best: %r, score %.3f; all scores as without workers: %s" % (
        search.best_params_, search.best_score_, all(serial == search.cv_results_["mean_test_score"])))
