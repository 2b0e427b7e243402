import java.util.ArrayDeque;
import java.util.Queue;
import java.util.concurrent.Executor;

/** Runs what is added one after the other, in this order. Of those that wait there are only so many. */
final class Line {
    private final Executor threads;
    private final int places;
    private final Queue<Runnable> waiting = new ArrayDeque<>();
    private boolean busy;

    Line(Executor threads, int places) {
        this.threads = threads;
        this.places = places;
    }

    /** Returns false if all places are taken. */
    synchronized boolean add(Runnable task) {
        if (busy && waiting.size() >= places) {
            return false;
        }
        waiting.add(task);
        if (!busy) {
            busy = true;
            threads.execute(this::run);
        }
        return true;
    }

    private void run() {
        for (Runnable task = next(); task != null; task = next()) {
            task.run();
        }
    }

    private synchronized Runnable next() {
        busy = !waiting.isEmpty();
        return waiting.poll();
    }
}
