// Package suite has the tests of the limiter on real Redis servers, in real
// processes.
package suite
